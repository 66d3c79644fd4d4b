import { X509Certificate, createPrivateKey } from 'node:crypto';
import { expect, it } from 'vitest';
import { selfSigned } from './certificate.js';

it('is a certificate of its own key that signs itself', () => {
  const { certificate, key } = selfSigned('a name');
  const read = new X509Certificate(certificate);
  expect(read.subject).toBe('CN=a name');
  expect(read.issuer).toBe('CN=a name');
  expect(read.ca).toBe(true);
  expect(read.verify(read.publicKey)).toBe(true);
  expect(read.checkPrivateKey(createPrivateKey(key))).toBe(true);
  expect(new Date(read.validTo).getUTCFullYear()).toBe(9999);
  expect(read.checkIssued(new X509Certificate(selfSigned('another name').certificate))).toBe(false);
});
