// The drops collector: exact totals by reason, and a record with reason and 5-tuple for each flow that lost packets.

import type { Direction, EvictReason } from "../src/flow.ts";
import type { Snapshot } from "../src/snapshot.ts";
import type { KernelClock } from "./clock.ts";
import { dropRecord, dropTotals as dropTotalsLayout, hook as hooks, limits } from "./contract.gen.ts";
import type { OpenedTable } from "./datapath.ts";
import { type DropReasons, reasonOfIndex } from "./drop-reasons.ts";
import { KEY_WORDS } from "./flow-columns.ts";
import { createFlowTable, type Sighting } from "./flow-table.ts";
import { addToLedger, emptyLedger, isLocalEnd, type TableLedger } from "./flows.ts";
import {
  bytesOf,
  createRowList,
  flowKey,
  hookDirection,
  hookOf,
  rowOf,
  scopeOf,
  tcpFlagsOf,
} from "./records.ts";
import { readDropTotals } from "./uplink-totals.ts";
import { directionAt, type Place } from "./watcher.ts";

const IFINDEX_WORD = dropRecord.ifindex / 4;
const JIFFIES_WORD = dropRecord.firstJiffies / 4; // first in the low half, last in the high half
const PACKETS_WORD = dropRecord.packets / 4;

export type Drops = { readonly ledger: TableLedger; collect(): Snapshot; drain(): Snapshot };

/** What the kernel cannot know of a packet that came in. */
export type Surroundings = {
  readonly place: (ifindex: number) => Place | undefined;
  readonly isLocal: (address: Uint8Array) => boolean;
};

/** Direction of a packet that came in by an interface of this namespace, as the flow has it that it belongs to. */
function directionIn(words: Uint32Array, at: number, cameIn: number, around: Surroundings): Direction {
  const place = around.place(cameIn);
  const direction = directionAt(place?.role ?? "other", hooks.INGRESS, () =>
    isLocalEnd(words, at, around.isLocal),
  );
  // What a bridge hands up to be routed came from one of its ports: which one, the packet does not say any more.
  return direction ?? (place?.endpointsAlone === true ? "egress" : "ingress");
}

function createReader(options: {
  clock: KernelClock;
  surroundings: Surroundings;
  add: (key: Uint32Array, sighting: Sighting) => void;
}) {
  const { clock, surroundings, add } = options;
  const key = new Uint32Array(KEY_WORDS);
  return (words: Uint32Array, at: number): void => {
    const jiffies = words[at + JIFFIES_WORD] ?? 0;
    const cause = scopeOf(words, at);
    const cameIn = cause >>> limits.DROP_REASON_BITS;
    // In another namespace a drop has the direction that it has there.
    const direction =
      cameIn === 0 ? hookDirection(hookOf(words, at)) : directionIn(words, at, cameIn, surroundings);
    flowKey(key, words, at, direction, reasonOfIndex(cause & (limits.DROP_REASONS - 1)));
    add(key, {
      ifindex: words[at + IFINDEX_WORD] ?? 0,
      rank: 0,
      packets: words[at + PACKETS_WORD] ?? 0,
      bytes: bytesOf(words, at),
      tcpFlags: tcpFlagsOf(words, at),
      firstNs: clock.shortJiffiesToNs(jiffies & 0xffff),
      lastNs: clock.shortJiffiesToNs(jiffies >>> 16),
    });
  };
}

export function createDrops(options: {
  drops: OpenedTable;
  reasons: DropReasons;
  clock: KernelClock;
  cpus: number;
  interfaceName: (ifindex: number) => string;
  surroundings: Surroundings;
  idleMs: number;
  activeMs: number;
  dropsMax: number;
}): Drops {
  const { reasons, clock } = options;
  const totals = new BigUint64Array(
    options.drops.object.mapArray("drop_totals", options.cpus, dropTotalsLayout.size, false).buffer,
  );
  const ledger = emptyLedger();
  const rows = createRowList();
  const table = createFlowTable({
    max: options.dropsMax,
    idleNs: options.idleMs * 1e6,
    activeNs: options.activeMs * 1e6,
    drops: true,
    report: (slot: number, evictReason: EvictReason) =>
      rows.add(
        rowOf({
          flows: table.flows,
          slot,
          clock,
          interfaceName: options.interfaceName,
          dropReason: reasons.name,
          evictReason,
        }),
      ),
  });
  const readRecord = createReader({ clock, surroundings: options.surroundings, add: table.add });

  function read(): void {
    addToLedger(ledger, options.drops.read(readRecord));
  }

  return {
    ledger,
    collect() {
      clock.refresh();
      read();
      table.sweep(clock.nowNs());
      return { drops: readDropTotals(totals, options.cpus, reasons), flows: rows.take() };
    },
    drain() {
      clock.refresh();
      read();
      table.drain();
      return { drops: readDropTotals(totals, options.cpus, reasons), flows: rows.take() };
    },
  };
}
