// A Bloom filter of hashes: a few bits a value that tell for sure what is not among them.

const wanted = 10; // Bits a value: one absent value in a hundred looks as if it were there.
const useless = 2; // Bits a value: four in ten.
const probesMax = 4; // Seven would be best for ten bits, tell hardly more, and take longer.

/** Spreads 32 bits over 32 bits, one to one (the last step of MurmurHash3). Signed: the engine is slow without. */
export function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** Its first byte says how many bits a value sets; no bytes when `bytesMax` is too little to tell anything. */
export function bloomOf(hashes: ReadonlySet<number>, bytesMax: number): Uint8Array {
  const bytes = Math.min(Math.ceil((hashes.size * wanted) / 8), Math.floor(bytesMax) - 1);
  const bitsEach = (bytes * 8) / hashes.size;
  if (!(bitsEach >= useless)) return new Uint8Array(0);
  const filter = new Uint8Array(1 + bytes);
  const probes = Math.min(probesMax, Math.max(1, Math.round(bitsEach * Math.LN2)));
  const scale = scaleOf(bytes);
  filter[0] = probes;
  for (const hash of hashes) {
    const step = stepOf(hash);
    for (let probe = 0, place = hash; probe < probes; probe++, place = (place + step) | 0) {
      const bit = ((place >>> 0) * scale) | 0;
      filter[1 + (bit >>> 3)] = (filter[1 + (bit >>> 3)] ?? 0) | (1 << (bit & 7));
    }
  }
  return filter;
}

/** False only for what was not among the hashes. */
export function mayHold(filter: Uint8Array, hash: number): boolean {
  if (filter.length < 2) return true;
  const scale = scaleOf(filter.length - 1);
  const step = stepOf(hash);
  for (let probe = 0, place = hash; probe < (filter[0] ?? 0); probe++, place = (place + step) | 0) {
    const bit = ((place >>> 0) * scale) | 0;
    if (((filter[1 + (bit >>> 3)] ?? 0) & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/** From 32 bits to a bit among those of so many bytes. */
const scaleOf = (bytes: number): number => (bytes * 8) / 2 ** 32;

// Odd, so that no value probes one place again and again.
const stepOf = (hash: number): number => mix(hash ^ 0x9e3779b9) | 1;
