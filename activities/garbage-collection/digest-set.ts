/**
 * A set of SHA-256 digests in flat memory: 8 bytes of each, and no object. A million of them take 16 MiB. Two digests
 * with equal first 8 bytes are one: garbage collection then spares a blob that it could remove.
 */

const FIRST_SLOTS = 1024;
const BYTES = 8;

export class DigestSet {
  /** Pairs of words, by open addressing; two zeros are a free slot. */
  #slots = new Uint32Array(2 * FIRST_SLOTS);
  #size = 0;
  /** Those that {@link takeNew} has not given yet. */
  #fresh = Buffer.allocUnsafe(BYTES * FIRST_SLOTS);
  #freshCount = 0;

  get size(): number {
    return this.#size;
  }

  /** How many were added since {@link takeNew} was called last. */
  get newCount(): number {
    return this.#freshCount;
  }

  /** Adds a digest in hexadecimal. */
  add(sha256: string): void {
    const [high, low] = wordsOf(sha256);
    if (this.#insert(high, low)) this.#note(high, low);
  }

  has(sha256: string): boolean {
    const [high, low] = wordsOf(sha256);
    const at = this.#find(high, low);
    return this.#slots[at] !== 0 || this.#slots[at + 1] !== 0;
  }

  /** The digests since the last call, as bytes that {@link addAll} takes. */
  takeNew(): Buffer {
    const taken = Buffer.from(this.#fresh.subarray(0, BYTES * this.#freshCount));
    this.#freshCount = 0;
    return taken;
  }

  /** Adds what {@link takeNew} gave. They count as given already. @throws Error where the bytes are no such thing. */
  addAll(bytes: Buffer): void {
    if (bytes.length % BYTES !== 0) throw new Error(`${bytes.length} bytes are no whole number of digests`);
    for (let at = 0; at < bytes.length; at += BYTES) this.#insert(bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4));
  }

  #insert(high: number, low: number): boolean {
    const at = this.#find(high, low);
    if (this.#slots[at] !== 0 || this.#slots[at + 1] !== 0) return false;
    this.#slots[at] = high;
    this.#slots[at + 1] = low;
    this.#size += 1;
    if (this.#size * 4 > this.#slots.length) this.#grow();
    return true;
  }

  #note(high: number, low: number): void {
    if (BYTES * (this.#freshCount + 1) > this.#fresh.length) {
      const larger = Buffer.allocUnsafe(2 * this.#fresh.length);
      this.#fresh.copy(larger);
      this.#fresh = larger;
    }
    this.#fresh.writeUInt32BE(high, BYTES * this.#freshCount);
    this.#fresh.writeUInt32BE(low, BYTES * this.#freshCount + 4);
    this.#freshCount += 1;
  }

  /** Where the words are, or would be. */
  #find(high: number, low: number): number {
    const mask = this.#slots.length / 2 - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const [first, second] = [this.#slots[2 * slot]!, this.#slots[2 * slot + 1]!];
      if ((first === high && second === low) || (first === 0 && second === 0)) return 2 * slot;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(2 * old.length);
    for (let at = 0; at < old.length; at += 2) {
      const [high, low] = [old[at]!, old[at + 1]!];
      if (high === 0 && low === 0) continue;
      const place = this.#find(high, low);
      this.#slots[place] = high;
      this.#slots[place + 1] = low;
    }
  }
}

/** Two words of a digest, which are never both zero. @throws Error where the text is no digest. */
function wordsOf(sha256: string): [number, number] {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error(`no SHA-256 in hexadecimal: ${sha256.slice(0, 80)}`);
  const [high, low] = [Number.parseInt(sha256.slice(0, 8), 16), Number.parseInt(sha256.slice(8, 16), 16)];
  return high === 0 && low === 0 ? [0, 1] : [high, low];
}
