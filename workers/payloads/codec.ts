/**
 * Encryption of what Temporal keeps: inputs, results, messages, memos, summaries, details and texts of failures. Workers,
 * clients and the codec server share it. What it writes once must stay readable: runs and histories outlive a version.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { DataConverter, Payload, PayloadCodec } from '@temporalio/common';
import protobuf from 'protobufjs';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const ENCODING = 'binary/encrypted';

/** `temporal.api.common.v1.Payload` on the wire. */
const WirePayload = new protobuf.Type('Payload')
  .add(new protobuf.MapField('metadata', 1, 'string', 'bytes'))
  .add(new protobuf.Field('data', 2, 'bytes'));

/** The variable that holds the keys. */
const VARIABLE = 'ACECODER_PAYLOAD_KEY';
const EXAMPLE = `export ${VARIABLE}="2026:$(openssl rand -base64 32)"`;

/** Keys by their ids. The first one encrypts, and all of them decrypt. */
type PayloadKeys = ReadonlyMap<string, Buffer>;

/** The keys of `ACECODER_PAYLOAD_KEY`; undefined where it is not set. @throws Error that says which one is wrong. */
function payloadKeys(env: NodeJS.ProcessEnv): PayloadKeys | undefined {
  const text = env[VARIABLE]?.trim();
  if (!text) return undefined;
  const keys = new Map<string, Buffer>();
  for (const [index, part] of text.split(/[\s,]+/).entries()) {
    const [, id, base64] = /^([\w.-]{1,64}):([\w+/-]+=*)$/.exec(part) ?? [];
    if (id === undefined || base64 === undefined)
      throw new Error(`Key ${index + 1} of ${VARIABLE} has not the form ID:BASE64. Type: ${EXAMPLE}`);
    const key = Buffer.from(base64, 'base64');
    if (key.length !== KEY_BYTES)
      throw new Error(
        `The key '${id}' of ${VARIABLE} has ${key.length} bytes; it needs ${KEY_BYTES}. Type: ${EXAMPLE}`,
      );
    if (keys.has(id)) throw new Error(`${VARIABLE} has two keys with the id '${id}'.`);
    keys.set(id, key);
  }
  return keys;
}

/**
 * The codec of `ACECODER_PAYLOAD_KEY`, which holds `ID:BASE64`, or several of them with commas between: the first key
 * encrypts, and all of them decrypt. It encrypts by AES-256-GCM, each payload with a nonce of its own. The key's id
 * stays readable, and cannot be changed unnoticed. A payload that is not encrypted is read as it is.
 *
 * @returns undefined where the variable is not set.
 * @throws Error that says which key is wrong, without the key. `decode` throws an Error that names the id of a key that
 *   is not there or is another one.
 * @example
 * ```ts
 * import { Client } from '@temporalio/client';
 * import { dataConverterOf, payloadCodec } from 'acecoder-temporal';
 *
 * const client = new Client({ dataConverter: dataConverterOf(payloadCodec(process.env)) });
 * ```
 */
export function payloadCodec(env: NodeJS.ProcessEnv): PayloadCodec | undefined {
  const keys = payloadKeys(env);
  const [current] = keys ?? [];
  if (!keys || !current) return undefined;
  return {
    encode: (payloads) => Promise.resolve(payloads.map((payload) => sealed(payload, ...current))),
    // eslint-disable-next-line @typescript-eslint/require-await -- what it throws is a rejection
    decode: async (payloads) => payloads.map((payload) => opened(payload, keys)),
  };
}

function sealed(payload: Payload, id: string, key: Buffer): Payload {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, key, iv).setAAD(Buffer.from(id));
  const wire = WirePayload.encode({
    metadata: payload.metadata ?? {},
    data: payload.data ?? new Uint8Array(),
  }).finish();
  return {
    metadata: {
      encoding: Buffer.from(ENCODING),
      'encryption-cipher': Buffer.from('AES-256-GCM'),
      'encryption-key-id': Buffer.from(id),
    },
    data: Buffer.concat([iv, cipher.update(wire), cipher.final(), cipher.getAuthTag()]),
  };
}

function opened(payload: Payload, keys: PayloadKeys): Payload {
  const { encoding, 'encryption-key-id': keyId } = payload.metadata ?? {};
  if (!encoding || Buffer.from(encoding).toString() !== ENCODING) return payload;
  const id = Buffer.from(keyId ?? []).toString();
  const key = keys.get(id);
  if (!key)
    throw new Error(
      `A payload is encrypted by the key '${id}', and ${VARIABLE} holds ${[...keys.keys()].join(', ')}: add that key.`,
    );
  const data = Buffer.from(payload.data ?? []);
  try {
    const decipher = createDecipheriv(CIPHER, key, data.subarray(0, IV_BYTES))
      .setAAD(Buffer.from(id))
      .setAuthTag(data.subarray(-TAG_BYTES));
    const wire = Buffer.concat([decipher.update(data.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()]);
    const { metadata, data: plain } = WirePayload.toObject(WirePayload.decode(wire)) as Payload;
    return { metadata: metadata ?? {}, data: plain ?? new Uint8Array() };
  } catch (error) {
    throw new Error(
      `A payload cannot be decrypted by the key '${id}' of ${VARIABLE}: it is not the key that encrypted it, or the ` +
        'payload was changed.',
      { cause: error },
    );
  }
}

/** The module that puts texts of failures into payloads. */
const failureConverterPath = fileURLToPath(new URL('./failure-converter.cjs', import.meta.url));

/**
 * How a client or worker reads and writes payloads with a codec: texts of failures go through it, too.
 *
 * @returns undefined without a codec.
 * @example
 * ```ts
 * import { Client } from '@temporalio/client';
 * import { dataConverterOf, payloadCodec } from 'acecoder-temporal';
 *
 * const client = new Client({ dataConverter: dataConverterOf(payloadCodec(process.env)) });
 * ```
 */
export function dataConverterOf(codec: PayloadCodec | undefined): DataConverter | undefined {
  return codec && { payloadCodecs: [codec], failureConverterPath };
}
