// Reads a BPF ring buffer through its mapping: no system call, no callback into JavaScript a record.
// The protocol is the kernel's (kernel/bpf/ringbuf.c): positions only grow; a record is a header of 8 bytes, whose first
// word is the length with a busy and a discard bit, then the data, padded to 8. The data area is mapped twice in a row.

import { type Mapping, mapMemory, pageSize } from "./libc.ts";

const BUSY = 0x80000000;
const DISCARD = 0x40000000;
const HEADER_BYTES = 8;

export type Ring = Disposable & {
  /** Calls `visit` with each record that is complete; the view is only good during the call. */
  read(visit: (record: DataView, length: number) => void): void;
  readonly bytes: number;
};

/** `bytes` is the ring buffer's max_entries: a power of two and a multiple of the page. */
export function openRing(fd: number, bytes: number): Ring {
  using undo = new DisposableStack();
  const page = pageSize();
  const consumer: Mapping = undo.use(mapMemory(fd, page, { write: true }));
  const producer: Mapping = undo.use(mapMemory(fd, page + 2 * bytes, { write: false, offset: page }));
  const consumed = new BigUint64Array(consumer.buffer, 0, 1);
  const produced = new DataView(producer.buffer, 0, 8);
  const data = new DataView(producer.buffer, page, 2 * bytes);
  // Orders plain loads before it against those after it on every CPU. Never Atomics.load on what the kernel maps
  // read-only: compiled code does it by adding zero, which writes.
  const order = new Int32Array(1);
  const fence = (): void => void Atomics.add(order, 0, 1);
  const producedUpTo = (): bigint => produced.getBigUint64(0, true);
  const owned = undo.move();
  return {
    bytes,
    read(visit) {
      // The kernel publishes a record by clearing its busy bit.
      const end = producedUpTo();
      fence();
      let at = Atomics.load(consumed, 0);
      while (at < end) {
        const offset = Number(at & BigInt(bytes - 1));
        const header = data.getUint32(offset, true);
        if (header & BUSY) break;
        fence();
        const length = header & ~DISCARD;
        if (!(header & DISCARD))
          visit(new DataView(data.buffer, data.byteOffset + offset + HEADER_BYTES, length), length);
        at += BigInt(Math.ceil((length + HEADER_BYTES) / 8) * 8);
        Atomics.store(consumed, 0, at);
      }
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}
