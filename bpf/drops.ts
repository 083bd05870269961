// The drops collector: exact totals by reason, and a record with reason and 5-tuple for each flow that lost packets.

import type { EvictReason } from "../src/flow.ts";
import type { Snapshot } from "../src/snapshot.ts";
import type { KernelClock } from "./clock.ts";
import { dropRecord, dropTotals as dropTotalsLayout } from "./contract.gen.ts";
import type { OpenedTable } from "./datapath.ts";
import type { DropReasons } from "./drop-reasons.ts";
import { KEY_WORDS } from "./flow-columns.ts";
import { createFlowTable, type Sighting } from "./flow-table.ts";
import { addToLedger, emptyLedger, type TableLedger } from "./flows.ts";
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

const IFINDEX_WORD = dropRecord.ifindex / 4;
const JIFFIES_WORD = dropRecord.firstJiffies / 4; // first in the low half, last in the high half
const PACKETS_WORD = dropRecord.packets / 4;

export type Drops = { readonly ledger: TableLedger; collect(): Snapshot; drain(): Snapshot };

function createReader(clock: KernelClock, add: (key: Uint32Array, sighting: Sighting) => void) {
  const key = new Uint32Array(KEY_WORDS);
  return (words: Uint32Array, at: number): void => {
    const jiffies = words[at + JIFFIES_WORD] ?? 0;
    flowKey(key, words, at, hookDirection(hookOf(words, at)), scopeOf(words, at));
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
  const readRecord = createReader(clock, table.add);

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
