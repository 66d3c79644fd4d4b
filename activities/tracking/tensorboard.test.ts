/** The event file, byte for byte as TensorBoard's own writer makes it, and what it must not hold. */
import { describe, expect, it } from 'vitest';
import { eventFile, eventFileName } from './tensorboard.js';
import type { Point } from './points.js';

const points = [1, 2, 300].map((step): Point => ({
  tag: 'reinforcement/reward',
  step,
  value: step / 7,
  time: 1767225600.25 + step,
}));

/** Made by `RecordWriter` and the protocol buffers of tensorboard 2.21.0 from the same points. */
const OF_TENSORBOARD = [
  '1800000000000000a37f4b2209000050406e55da411a0d627261696e2e4576656e743a32cb5070c7',
  '2a00000000000000ae8d91f509000050406e55da4110012a1d0a1b0a147265696e666f7263656d656e742f72657761726415',
  '2549123eb88ba058',
  '2a00000000000000ae8d91f509000090406e55da4110022a1d0a1b0a147265696e666f7263656d656e742f72657761726415',
  '2549923ed1a3e773',
  '2b00000000000000861bc34b090000108b6e55da4110ac022a1d0a1b0a147265696e666f7263656d656e742f72657761726415',
  'b76d2b42312e2297',
].join('');

describe('eventFile', () => {
  it("equals what TensorBoard's own writer makes", () => {
    expect(eventFile(points).toString('hex')).toBe(OF_TENSORBOARD);
    expect(eventFileName(points)).toBe('events.out.tfevents.1767225601.acecoder');
  });

  it('holds the version alone where there is no point', () => {
    expect(eventFile([]).toString('latin1')).toContain('brain.Event:2');
    expect(eventFileName([])).toBe('events.out.tfevents.0.acecoder');
  });

  it.each([[-1], [0.5], [Number.NaN]])('refuses step %d', (step) => {
    expect(() => eventFile([{ ...points[0]!, step }])).toThrow('reinforcement/reward has the step');
  });
});
