/** At which address the other hosts of a training reach a host. Pure. */
import type { NetworkInterfaceInfo } from 'node:os';
import { expect, it } from 'vitest';
import { ownAddress } from './gang.js';

const of = (address: string, family: 'IPv4' | 'IPv6', internal = false): NetworkInterfaceInfo =>
  ({ address, family, internal }) as NetworkInterfaceInfo;
const interfaces = {
  lo: [of('127.0.0.1', 'IPv4', true)],
  eth0: [of('fe80::1', 'IPv6'), of('10.0.0.7', 'IPv4')],
  ib0: [of('10.1.0.7', 'IPv4')],
};

it.each([
  [undefined, interfaces, '10.0.0.7', 'eth0'],
  ['10.1.0.7', interfaces, '10.1.0.7', 'ib0'],
  ['127.0.0.1', interfaces, '127.0.0.1', 'lo'],
  // A host without a network trains with its own workers.
  [undefined, { lo: interfaces.lo }, '127.0.0.1', 'lo'],
] as const)('asked for %s, it takes the address of an interface', (asked, all, host, name) => {
  expect(ownAddress(asked, { ...all })).toEqual({ host, interface: name });
});

it('refuses an address that the host does not have', () => {
  expect(() => ownAddress('10.9.9.9', interfaces)).toThrow(
    'ACECODER_GANG_ADDRESS is 10.9.9.9, and no network interface of this host has that address',
  );
});
