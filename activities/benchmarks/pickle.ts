/**
 * Pickles of data alone. LiveCodeBench publishes its private tests as a pickled text, and a pickle can run anything
 * where Python reads it. Here lists, dictionaries, texts, numbers, truths and None are built, and every other opcode is
 * refused: no class is named, and no function is called.
 */

/** A pickle that is not data alone, or is cut. */
export class RefusedPickle extends Error {}

const MARK = Symbol('mark');

/** Bytes that an opcode's own length is in, for opcodes of texts. */
const TEXTS: Readonly<Record<number, 1 | 4 | 8>> = { 0x8c: 1, 0x58: 4, 0x8d: 8 };

/**
 * The value of a pickle. Dictionaries have texts as keys. Whole numbers beyond 2 ** 53 are refused.
 *
 * @throws RefusedPickle naming the opcode.
 * @example
 * dataOfPickle(Buffer.from('80049503000000000000008c0161942e', 'hex')); // 'a'
 */
export function dataOfPickle(bytes: Buffer): unknown {
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = 0;
  const take = (length: number): Buffer => {
    if (length > bytes.length - at) throw new RefusedPickle('the pickle is cut');
    return bytes.subarray(at, (at += length));
  };
  const size = (width: 1 | 4 | 8): number => {
    const length =
      width === 1 ? take(1).readUInt8() : width === 4 ? take(4).readUInt32LE() : Number(take(8).readBigUInt64LE());
    if (length > bytes.length) throw new RefusedPickle('the pickle is cut');
    return length;
  };
  const pop = (): unknown => {
    if (stack.length === 0) throw new RefusedPickle('the pickle takes more than it has');
    return stack.pop();
  };
  const sinceMark = (): unknown[] => {
    const mark = stack.lastIndexOf(MARK);
    if (mark < 0) throw new RefusedPickle('the pickle takes more than it has');
    const items = stack.splice(mark);
    return items.slice(1);
  };
  const append = (items: unknown[]): void => {
    const list = stack.at(-1);
    if (!Array.isArray(list)) throw new RefusedPickle('the pickle appends to what is no list');
    for (const item of items) list.push(item);
  };
  const set = (items: unknown[]): void => {
    const map = stack.at(-1);
    if (!(map instanceof Map) || items.length % 2 > 0) throw new RefusedPickle('the pickle sets what is no dictionary');
    for (let index = 0; index < items.length; index += 2) {
      const key = items[index];
      if (typeof key !== 'string') throw new RefusedPickle('a dictionary of the pickle has a key that is no text');
      (map as Map<string, unknown>).set(key, items[index + 1]);
    }
  };
  while (at < bytes.length) {
    const opcode = take(1).readUInt8();
    const width = TEXTS[opcode];
    if (width !== undefined) {
      stack.push(take(size(width)).toString('utf8'));
      continue;
    }
    switch (opcode) {
      case 0x80: // PROTO
        take(1);
        break;
      case 0x95: // FRAME
        take(8);
        break;
      case 0x94: // MEMOIZE
        memo.set(memo.size, stack.at(-1));
        break;
      case 0x71: // BINPUT
        memo.set(take(1).readUInt8(), stack.at(-1));
        break;
      case 0x72: // LONG_BINPUT
        memo.set(take(4).readUInt32LE(), stack.at(-1));
        break;
      case 0x68: // BINGET
      case 0x6a: {
        // LONG_BINGET
        const place = opcode === 0x68 ? take(1).readUInt8() : take(4).readUInt32LE();
        if (!memo.has(place)) throw new RefusedPickle('the pickle takes more than it has');
        stack.push(memo.get(place));
        break;
      }
      case 0x4e: // NONE
        stack.push(null);
        break;
      case 0x88: // NEWTRUE
      case 0x89: // NEWFALSE
        stack.push(opcode === 0x88);
        break;
      case 0x4b: // BININT1
        stack.push(take(1).readUInt8());
        break;
      case 0x4d: // BININT2
        stack.push(take(2).readUInt16LE());
        break;
      case 0x4a: // BININT
        stack.push(take(4).readInt32LE());
        break;
      case 0x8a: // LONG1
        stack.push(wholeNumber(take(size(1))));
        break;
      case 0x47: // BINFLOAT
        stack.push(take(8).readDoubleBE());
        break;
      case 0x28: // MARK
        stack.push(MARK);
        break;
      case 0x5d: // EMPTY_LIST
        stack.push([]);
        break;
      case 0x7d: // EMPTY_DICT
        stack.push(new Map<string, unknown>());
        break;
      case 0x61: {
        // APPEND
        const item = pop();
        append([item]);
        break;
      }
      case 0x65: // APPENDS
        append(sinceMark());
        break;
      case 0x73: {
        // SETITEM
        const value = pop();
        const key = pop();
        set([key, value]);
        break;
      }
      case 0x75: // SETITEMS
        set(sinceMark());
        break;
      case 0x2e: {
        // STOP
        const value = pop();
        if (stack.length > 0 || value === MARK) throw new RefusedPickle('the pickle holds more than a value');
        return plain(value, 0, { left: MOST_VALUES });
      }
      default:
        throw new RefusedPickle(
          `the pickle has the opcode 0x${opcode.toString(16).padStart(2, '0')}, and only lists, dictionaries, texts ` +
            'and numbers are read',
        );
    }
  }
  throw new RefusedPickle('the pickle is cut');
}

function wholeNumber(bytes: Buffer): number {
  let value = 0n;
  for (const [index, byte] of bytes.entries()) value |= BigInt(byte) << BigInt(8 * index);
  if (bytes.length > 0 && bytes.at(-1)! > 0x7f) value -= 1n << BigInt(8 * bytes.length);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new RefusedPickle('the pickle has a whole number beyond 2 ** 53');
  return number;
}

const MOST_DEEP = 100;
const MOST_VALUES = 1_000_000;

/** Dictionaries as objects without a prototype. A value that holds itself, or others many times, is refused. */
function plain(value: unknown, depth: number, values: { left: number }): unknown {
  values.left -= 1;
  if (values.left < 0) throw new RefusedPickle('the pickle has too many values');
  if (depth > MOST_DEEP) throw new RefusedPickle('the pickle is too deep');
  if (value === MARK) throw new RefusedPickle('the pickle holds more than a value');
  if (Array.isArray(value)) return value.map((each) => plain(each, depth + 1, values));
  if (!(value instanceof Map)) return value;
  const object = Object.create(null) as Record<string, unknown>;
  for (const [key, each] of value as Map<string, unknown>) object[key] = plain(each, depth + 1, values);
  return object;
}
