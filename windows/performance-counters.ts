// The performance counters of the virtual switch, by pdh.dll. A call may wait for a provider: only in a thread of its own.

import { ptr } from "bun:ffi";
import type { Direction } from "../src/flow.ts";
import { directionOfSet, meaningOfCounter, type PortSample } from "./performance-names.ts";
import { addressCell, LibraryError, openLibrary, type Pointer, utf16, WindowsError } from "./system.ts";
import type { NamedCount } from "./vfp-names.ts";

const openPdh = () =>
  openLibrary("pdh.dll", {
    PdhEnumObjectsW: { args: ["ptr", "ptr", "ptr", "ptr", "u32", "i32"], returns: "i32" },
    PdhEnumObjectItemsW: {
      args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr", "u32", "u32"],
      returns: "i32",
    },
    PdhOpenQueryW: { args: ["ptr", "u64", "ptr"], returns: "i32" },
    PdhAddCounterW: { args: ["ptr", "ptr", "u64", "ptr"], returns: "i32" },
    PdhCollectQueryData: { args: ["ptr"], returns: "i32" },
    PdhGetRawCounterArrayW: { args: ["ptr", "ptr", "ptr", "ptr"], returns: "i32" },
    PdhCloseQuery: { args: ["ptr"], returns: "i32" },
  });

type Pdh = ReturnType<typeof openPdh>["symbols"];

let bound: Pdh | undefined;

/** Bound once, for the life of the thread: what binding takes is not given back when a library is closed. */
function boundPdh(): Pdh {
  bound ??= openPdh().symbols;
  return bound;
}

const moreData = 0x8000_07d2 | 0;
const noData = 0x8000_07d5 | 0;
const noObject = 0xc000_0bb8 | 0;
/** PERF_DETAIL_WIZARD: counters of every level of detail. */
const everyDetail = 400;
const refresh = 1;

/** Lists may grow between the call that asks for the size and the one that fills the buffer. */
const attemptsMax = 4;
const slack = 4096;
/** Of names, counters or items, in bytes: far beyond what 10,000 ports need. */
const listBytesMax = 64 * 2 ** 20;

function check(status: number, what: string): void {
  if (status !== 0) throw new WindowsError(what, status);
}

/** Buffer of 8-byte words, which keeps addresses in it aligned. `call` gives a status and writes the size it needs. */
function grown(
  what: string,
  call: (buffer: BigUint64Array | null, size: Uint32Array) => number,
  unit: number,
): { readonly buffer: BigUint64Array; readonly used: number } {
  const size = new Uint32Array(1);
  let buffer: BigUint64Array | null = null;
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const status = call(buffer, size);
    const used = size[0] ?? 0;
    if (status === 0 && buffer !== null) return { buffer, used };
    if (status === noData || status === noObject) return { buffer: new BigUint64Array(1), used: 0 };
    if (status !== moreData && status !== 0) throw new WindowsError(what, status);
    if (used === 0) return { buffer: new BigUint64Array(1), used: 0 };
    const bytes = used * unit + slack;
    if (bytes > listBytesMax) throw new LibraryError(`${what}: an answer of ${bytes} bytes is too long`);
    // On an ArrayBuffer from the start: a small array moves when it gets one later, and the addresses in it are wrong then.
    buffer = new BigUint64Array(new ArrayBuffer(Math.ceil(bytes / 8) * 8));
    size[0] = Math.floor(buffer.byteLength / unit);
  }
  throw new LibraryError(`${what}: the answer grew ${attemptsMax} times`);
}

/** Strings that end with a zero each, the last one with two. */
const stringsIn = ({ buffer }: { readonly buffer: BigUint64Array }): readonly string[] => {
  const text = Buffer.from(buffer.buffer).toString("utf16le");
  const end = text.indexOf("\0\0");
  return text.slice(0, Math.max(0, end)).split("\0").filter(Boolean);
};

const objectsOf = (pdh: Pdh): readonly string[] =>
  stringsIn(
    grown(
      "The sets of performance counters cannot be listed",
      (buffer, size) =>
        pdh.PdhEnumObjectsW(null, null, buffer, size, everyDetail, buffer === null ? refresh : 0),
      2,
    ),
  );

function countersOf(pdh: Pdh, object: string): readonly string[] {
  const name = utf16(object);
  let instances = new Uint16Array(1);
  return stringsIn(
    grown(
      `The counters of ${object} cannot be listed`,
      (buffer, size) => {
        const instanceSize = new Uint32Array([buffer === null ? 0 : instances.length]);
        const lists = [buffer, size, buffer === null ? null : instances, instanceSize] as const;
        const status = pdh.PdhEnumObjectItemsW(null, null, name, ...lists, everyDetail, 0);
        // The instances have to fit as well, although nothing reads them here.
        instances = new Uint16Array(Math.min((instanceSize[0] ?? 0) + slack, listBytesMax / 2));
        return status;
      },
      2,
    ),
  );
}

type Column = {
  readonly counter: Pointer;
  readonly direction: Direction;
  readonly meaning: NamedCount["meaning"];
};

const handleIn = (cell: BigUint64Array): Pointer => Number(cell[0] ?? 0n) as Pointer;

/** One counter for all instances. A counter that is listed and cannot be added is left out. */
function addCounter(pdh: Pdh, query: Pointer, path: string): Pointer | undefined {
  const cell = addressCell();
  return pdh.PdhAddCounterW(query, utf16(path), 0n, cell) === 0 ? handleIn(cell) : undefined;
}

const columnsOf = (pdh: Pdh, query: Pointer): readonly Column[] =>
  objectsOf(pdh).flatMap((object) => {
    const direction = directionOfSet(object);
    if (direction === undefined) return [];
    return countersOf(pdh, object).flatMap((name) => {
      const meaning = meaningOfCounter(name);
      if (meaning === undefined) return [];
      const counter = addCounter(pdh, query, `\\${object}(*)\\${name}`);
      return counter === undefined ? [] : [{ counter, direction, meaning }];
    });
  });

/** PDH_RAW_COUNTER_ITEM_W: the name's address at 0, the status at 8, the count at 24; the names follow the items. */
const itemBytes = 48;

function nameAt(bytes: Buffer, offset: number): string | undefined {
  if (offset < 0 || offset >= bytes.length) return undefined;
  let end = offset;
  while (end + 1 < bytes.length && bytes.readUInt16LE(end) !== 0) end += 2;
  return bytes.toString("utf16le", offset, end);
}

function itemsOf(pdh: Pdh, counter: Pointer): readonly (readonly [string, bigint])[] {
  const count = new Uint32Array(1);
  const { buffer, used } = grown(
    "A performance counter cannot be read",
    (into, size) => pdh.PdhGetRawCounterArrayW(counter, size, count, into),
    1,
  );
  if (used === 0) return [];
  const bytes = Buffer.from(buffer.buffer);
  const items = Math.min(count[0] ?? 0, Math.floor(bytes.length / itemBytes));
  return Array.from({ length: items }, (_, index) => index * itemBytes).flatMap((at) => {
    const name = nameAt(bytes, Number(bytes.readBigUInt64LE(at)) - ptr(buffer));
    const status = bytes.readUInt32LE(at + 8); // 0 and 1 are valid and new data.
    const value = bytes.readBigInt64LE(at + 24);
    return name === undefined || status > 1 || value < 0n ? [] : [[name, value] as const];
  });
}

/** More ports than a node has; the rest is in no answer. */
const portsMax = 16_384;

function readColumns(pdh: Pdh, columns: readonly Column[]): readonly PortSample[] {
  const ports = new Map<string, NamedCount[]>();
  for (const { counter, direction, meaning } of columns)
    for (const [instance, count] of itemsOf(pdh, counter)) {
      const counts = ports.get(instance) ?? [];
      counts.push({ direction, meaning, count });
      if (ports.has(instance) || ports.size < portsMax) ports.set(instance, counts);
    }
  return [...ports].map(([instance, counts]) => ({ instance, counts }));
}

export type PerformanceCounters = Disposable & { read(): readonly PortSample[] };

/** Undefined where no set of counters is of the switch. Throws LibraryError where there is no pdh.dll. */
export function openPerformanceCounters(): PerformanceCounters | undefined {
  const pdh = boundPdh();
  const cell = addressCell();
  check(pdh.PdhOpenQueryW(null, 0n, cell), "No query of performance counters can be opened");
  const query = handleIn(cell);
  using undo = new DisposableStack();
  undo.defer(() => void pdh.PdhCloseQuery(query));
  const columns = columnsOf(pdh, query);
  if (columns.length === 0) return undefined;
  const held = undo.move();
  return {
    read() {
      const status = pdh.PdhCollectQueryData(query);
      if (status === noData) return [];
      check(status, "The performance counters of the switch cannot be collected");
      return readColumns(pdh, columns);
    },
    [Symbol.dispose]: () => held.dispose(),
  };
}
