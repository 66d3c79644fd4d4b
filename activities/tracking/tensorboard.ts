/**
 * Points as an event file that TensorBoard reads: records of TFRecord, each with a protocol buffer `tensorflow.Event`
 * (event.proto and summary.proto of TensorFlow). Pure: equal points give equal bytes.
 */
import crc32c from 'crc-32/crc32c.js';
import protobuf from 'protobufjs';
import type { Point } from './points.js';

/** The members of `Event` that scalars need, under their numbers in event.proto and summary.proto. */
const Event = protobuf.Root.fromJSON({
  nested: {
    Event: {
      fields: {
        wallTime: { type: 'double', id: 1 },
        step: { type: 'int64', id: 2 },
        fileVersion: { type: 'string', id: 3 },
        summary: { type: 'Summary', id: 5 },
      },
    },
    Summary: { fields: { value: { rule: 'repeated', type: 'Value', id: 1 } } },
    Value: { fields: { tag: { type: 'string', id: 1 }, simpleValue: { type: 'float', id: 2 } } },
  },
}).lookupType('Event');

/** What TensorBoard wants to read in the first event. */
const FILE_VERSION = 'brain.Event:2';
/** Added to a rotated checksum, so that a checksum of checksums is none (record_writer.cc of TensorFlow). */
const MASK_DELTA = 0xa282ead8;

/**
 * The name of the file of a run: TensorBoard looks for `tfevents`, and orders files by the number.
 *
 * @example
 * eventFileName(points); // 'events.out.tfevents.1767225600.acecoder'
 */
export function eventFileName(points: readonly Point[]): string {
  const first = points.reduce((least, { time }) => Math.min(least, time), points[0]?.time ?? 0);
  return `events.out.tfevents.${Math.floor(first)}.acecoder`;
}

/**
 * The bytes of the file.
 *
 * @throws RangeError for a step that is no whole number of at least 0.
 */
export function eventFile(points: readonly Point[]): Buffer {
  const wrong = points.find(({ step }) => !Number.isSafeInteger(step) || step < 0);
  if (wrong) throw new RangeError(`${wrong.tag} has the step ${wrong.step}, which is no whole number of at least 0`);
  const began = points.reduce((least, { time }) => Math.min(least, time), points[0]?.time ?? 0);
  return Buffer.concat([
    record({ wallTime: began, fileVersion: FILE_VERSION }),
    ...points.map(({ tag, step, value, time }) =>
      record({ wallTime: time, step, summary: { value: [{ tag, simpleValue: value }] } }),
    ),
  ]);
}

function record(event: Record<string, unknown>): Buffer {
  const data = Event.encode(Event.create(event)).finish();
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt(data.length));
  head.writeUInt32LE(masked(head.subarray(0, 8)), 8);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(masked(data));
  return Buffer.concat([head, data, tail]);
}

function masked(bytes: Uint8Array): number {
  const crc = crc32c.buf(bytes) >>> 0;
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
