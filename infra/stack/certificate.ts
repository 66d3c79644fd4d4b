/** A certificate for servers that trust each other and nobody else: Node makes keys, and no certificates. */
import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto';

/** One element of DER: tag, length, content. */
function der(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  const size = Buffer.from(body.length.toString(16).padStart(body.length > 0xff ? 4 : 2, '0'), 'hex');
  const length = body.length < 0x80 ? size : Buffer.concat([Buffer.from([0x80 | size.length]), size]);
  return Buffer.concat([Buffer.from([tag]), length, body]);
}

const sequence = (...content: Buffer[]): Buffer => der(0x30, ...content);
const bits = (content: Buffer): Buffer => der(0x03, Buffer.from([0]), content);
const text = (value: string): Buffer => der(0x0c, Buffer.from(value));
const time = (value: string): Buffer => der(0x18, Buffer.from(value));
/** Object identifiers, as they stand in DER. */
const identifier = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
const ECDSA_WITH_SHA256 = sequence(identifier('2a8648ce3d040302'));
const COMMON_NAME = identifier('550403');
const BASIC_CONSTRAINTS = identifier('551d13');
const TRUE = der(0x01, Buffer.from([0xff]));

/**
 * A key of P-256 and a certificate of it that it signs itself, both as PEM. It never ends: it is worth what the secrecy
 * of its key is worth, and whoever has that needs no certificate.
 *
 * @example
 * const { certificate, key } = selfSigned('acecoder-store');
 */
export function selfSigned(name: string): { certificate: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subject = sequence(der(0x31, sequence(COMMON_NAME, text(name))));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    // A positive number: its first bit is 0.
    der(0x02, Buffer.from([0x40]), randomBytes(15)),
    ECDSA_WITH_SHA256,
    subject,
    sequence(time('20000101000000Z'), time('99991231235959Z')),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(sequence(BASIC_CONSTRAINTS, TRUE, der(0x04, sequence(TRUE))))),
  );
  const certificate = sequence(body, ECDSA_WITH_SHA256, bits(createSign('sha256').update(body).sign(privateKey)));
  const lines = certificate.toString('base64').replaceAll(/.{1,64}/g, '$&\n');
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines}-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'sec1', format: 'pem' }).toString(),
  };
}
