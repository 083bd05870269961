// Storage of live flows: columns of numbers with a hash index. 131,072 flows take some 20 MB.

/** Ten words of address, ports, protocol and direction, one of drop reason: what makes two records one flow. */
export const KEY_WORDS = 11;

export type FlowColumns = ReturnType<typeof createFlowColumns>;

const createColumns = (max: number) => ({
  keys: new Uint32Array(max * KEY_WORDS),
  next: new Int32Array(max),
  used: new Uint8Array(max),
  flags: new Uint8Array(max),
  rank: new Uint8Array(max),
  ended: new Uint8Array(max),
  ifindex: new Uint32Array(max),
  firstTick: new Uint32Array(max),
  seenTick: new Uint32Array(max),
  endTick: new Uint32Array(max),
  packets: new Float64Array(max),
  bytes: new Float64Array(max),
  firstNs: new Float64Array(max),
  lastNs: new Float64Array(max),
  reportNs: new Float64Array(max),
  rttUs: new Uint32Array(max),
  retransmits: new Uint32Array(max),
});

function hashKey(key: Uint32Array): number {
  let hash = 0;
  for (let i = 0; i < KEY_WORDS; i++) {
    hash = Math.imul(hash ^ (key[i] ?? 0), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}

/** A slot is a flow's place in every column. */
export function createFlowColumns(max: number) {
  const columns = createColumns(max);
  const { keys, next, used } = columns;
  const heads = new Int32Array(2 ** Math.ceil(Math.log2(max * 2))).fill(-1);
  const free = new Int32Array(max).map((_, i) => max - 1 - i);
  let freeCount = max;
  let highest = 0;
  const bucketOf = (key: Uint32Array): number => hashKey(key) & (heads.length - 1);
  const keyOf = (slot: number): Uint32Array => keys.subarray(slot * KEY_WORDS, (slot + 1) * KEY_WORDS);

  function sameKey(slot: number, key: Uint32Array): boolean {
    const at = slot * KEY_WORDS;
    for (let i = 0; i < KEY_WORDS; i++) if (keys[at + i] !== key[i]) return false;
    return true;
  }

  return {
    ...columns,
    /** The bytes of `keys`, for reading addresses. */
    keyView: new DataView(keys.buffer),
    max,
    keyOf,
    live: (): number => max - freeCount,
    /** Slots at and beyond it were never used. */
    highest: (): number => highest,
    /** The slot of a key, or -1. */
    find(key: Uint32Array): number {
      let slot = heads[bucketOf(key)] ?? -1;
      while (slot >= 0 && !sameKey(slot, key)) slot = next[slot] ?? -1;
      return slot;
    },
    /** A slot for a key that has none; there must be a free one. Only key and index are set. */
    insert(key: Uint32Array): number {
      if (freeCount === 0) throw new Error("flow table: no free slot");
      freeCount--;
      const slot = free[freeCount] ?? 0;
      const bucket = bucketOf(key);
      highest = Math.max(highest, slot + 1);
      keys.set(key, slot * KEY_WORDS);
      next[slot] = heads[bucket] ?? -1;
      heads[bucket] = slot;
      used[slot] = 1;
      return slot;
    },
    remove(slot: number): void {
      const bucket = bucketOf(keyOf(slot));
      let before = -1;
      for (let at = heads[bucket] ?? -1; at !== slot; at = next[at] ?? -1) before = at;
      if (before < 0) heads[bucket] = next[slot] ?? -1;
      else next[before] = next[slot] ?? -1;
      used[slot] = 0;
      free[freeCount++] = slot;
    },
  };
}
