// The kernel's flow table seen from user space: swap the halves, wait out running programs, read and clear the old one.

import { flowRecord, limits, tableSet, tally as tallyLayout } from "./contract.gen.ts";
import type { Libbpf } from "./libbpf.ts";
import type { KernelObject } from "./object.ts";
import { openRing, type Ring } from "./ring.ts";

const SET_WORDS = tableSet.size / 4;
const SLOTS_WORD = tableSet.slots / 4;
const RECORD_WORDS = flowRecord.size / 4;
const TALLY_WORDS = tallyLayout.size / 8;

const BARRIER_KEY = new Uint8Array(4);

/** Counts of a half since it was last read: wire packets. */
export type TallyDelta = {
  seen: number;
  spilled: number;
  untracked: number[];
  dnsLost: number;
};

/** Called with the words of a record; good only during the call. */
export type Visit = (words: Uint32Array, at: number) => void;

export type Table = Disposable & {
  readonly name: string;
  /** Records that fit into one half, and the kernel memory of all of it. */
  readonly capacity: number;
  readonly bytes: number;
  /** Records of the half that was read last. */
  readonly records: number;
  /** Swaps the halves; reading needs a barrier after it. */
  swap(): void;
  /** True between a swap and the read that belongs to it. */
  readonly swapped: boolean;
  /** Visits and clears each record of the retired half and each spilled record; returns the counts of that half. */
  read(visit: Visit): TallyDelta & { records: number; packets: number };
};

/** Waits until no program runs that began before the call (see `barrier` in table.h). Takes some milliseconds. */
export function waitForPrograms(libbpf: Libbpf, object: KernelObject): void {
  const target = new Uint8Array(new Int32Array([object.mapFd("barrier_target")]).buffer);
  libbpf.updateElement(object.mapFd("barrier"), BARRIER_KEY, target);
}

/** Adds up what the tallies of one half grew by since the last call. */
function tallyReader(words: BigUint64Array, cpus: number) {
  const last = new BigUint64Array(words.length);
  const grown = (half: number, cpu: number, field: number): number => {
    const at = (half * cpus + cpu) * TALLY_WORDS + field / 8;
    const now = words[at] ?? 0n;
    const delta = Number(now - (last[at] ?? 0n));
    last[at] = now;
    return delta;
  };
  return (half: number): TallyDelta => {
    const sum: TallyDelta = { seen: 0, spilled: 0, untracked: [0, 0, 0, 0], dnsLost: 0 };
    for (let cpu = 0; cpu < cpus; cpu++) {
      sum.seen += grown(half, cpu, tallyLayout.seen);
      sum.spilled += grown(half, cpu, tallyLayout.spilled);
      sum.dnsLost += grown(half, cpu, tallyLayout.dnsLost);
      for (let reason = 0; reason < 4; reason++)
        sum.untracked[reason] =
          (sum.untracked[reason] ?? 0) + grown(half, cpu, tallyLayout.untracked + reason * 8);
    }
    return sum;
  };
}

type Read = { records: number; packets: number };

/** Visits the records of one set. Slots fill in order: the first empty tag ends it. */
function readSet(words: Uint32Array, base: number, visit: Visit, read: Read): void {
  for (let way = 0; way < limits.TABLE_WAYS; way++) {
    if ((((words[base + (way >> 2)] ?? 0) >>> ((way & 3) * 8)) & 0xff) === 0) break;
    const at = base + SLOTS_WORD + way * RECORD_WORDS;
    read.records++;
    read.packets += words[at + flowRecord.packets / 4] ?? 0;
    visit(words, at);
  }
  words.fill(0, base, base + 4);
}

function readSpills(ring: Ring, visit: Visit): void {
  ring.read((record, length) => {
    const words = new Uint32Array(record.buffer, record.byteOffset, length / 4);
    visit(words, 0);
  });
}

export function openTable(options: {
  object: KernelObject;
  shards: number;
  cpus: number;
  setsLog2: number;
  spillBytes: number;
}): Table {
  const { object, shards, cpus, setsLog2 } = options;
  using undo = new DisposableStack();
  const setsHalf = shards << setsLog2;
  const sets = new Uint32Array(object.mapArray("table", 2 * setsHalf, tableSet.size, true).buffer);
  const tallies = new BigUint64Array(object.mapArray("tallies", 2 * cpus, tallyLayout.size, false).buffer);
  const control = new Uint32Array(object.mapArray(".data.control", 1, 4, true).buffer, 0, 1);
  const ring = undo.use(openRing(object.mapFd("spills"), options.spillBytes));
  const readTallies = tallyReader(tallies, cpus);
  let swapped = false;
  let records = 0;
  const owned = undo.move();
  return {
    name: object.name,
    capacity: setsHalf * limits.TABLE_WAYS,
    bytes: 2 * setsHalf * tableSet.size + options.spillBytes,
    get records() {
      return records;
    },
    swap() {
      control[0] = (control[0] ?? 0) ^ 1;
      swapped = true;
    },
    get swapped() {
      return swapped;
    },
    read(visit) {
      swapped = false;
      const half = (control[0] ?? 0) ^ 1;
      const read: Read = { records: 0, packets: 0 };
      const end = (half + 1) * setsHalf * SET_WORDS;
      for (let base = half * setsHalf * SET_WORDS; base < end; base += SET_WORDS)
        if (((sets[base] ?? 0) & 0xff) !== 0) readSet(sets, base, visit, read);
      records = read.records;
      const counts = readTallies(half);
      readSpills(ring, visit);
      return { ...counts, ...read };
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}
