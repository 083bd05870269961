// What rollups cost: a record, a minute that is written, an append with them, and the answers that they give.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FlowRecord } from "../../src/flow.ts";
import { openReader, type Reader } from "../../src/store/query.ts";
import { createRollupTable } from "../../src/store/rollup-table.ts";
import { createRollups } from "../../src/store/rollups.ts";
import { checkRow } from "../../src/store/rows.ts";
import { createSql } from "../../src/store/schema.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { openStore } from "../../src/store/store.ts";
import { openStrings } from "../../src/store/strings.ts";
import { queryTop } from "../../src/store/top.ts";
import type { TopKey, TopQuery } from "../../src/store/top-groups.ts";
import { flow, startAt } from "../store.flows.ts";
import { createRecord, least, ROUNDS } from "./rounds.ts";
import type { BenchRow } from "./row.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const day = 24 * hourMs;
const keysMax = 1000;

const inDir = <Result>(run: (dir: string) => Result): Result => {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    return run(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
};

function elapsedMs(work: () => void): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

/** Nanoseconds a record where so many keys come again and again. */
function nsPerRecord(keys: number): number {
  const count = 100_000;
  const rows = Array.from({ length: count }, (_, number) => {
    const row = checkRow(structuredClone(flow(number % keys, { endAt: startAt + number / 100 })));
    if (typeof row === "string") throw new Error(`a record is invalid: ${row}`);
    return row;
  });
  const rounds = Array.from({ length: ROUNDS }, () => {
    const table = createRollupTable({ keysMax: 16_384, periodsMax: 120 });
    return elapsedMs(() => {
      for (const row of rows) table.count(row, 0);
    });
  });
  return (least(rounds) * 1e6) / count;
}

/** Rows a second of whole appends with rollups, a tick of 5,000 rows each second, and the slowest with a minute in it. */
function appends(): { readonly rowsPerSecond: number; readonly minuteMs: number } {
  return inDir((dir) => {
    const clock = { at: startAt };
    const now = () => clock.at;
    const ages = { minuteAgeMaxMs: 30 * day, hourAgeMaxMs: 400 * day };
    const rollups = createRollups({ keysMax, ...ages, now });
    using store = openStore({ dir, bytesMax: 256 * 2 ** 20, ageMaxMs: day, now, parts: [rollups] });
    const batch = Array.from({ length: 5000 }, (_, number) => flow(number));
    const plain: number[] = [];
    const withMinute: number[] = [];
    for (let tick = 0; tick < 300; tick++) {
      const rows = batch.map((record) => ({ ...record, startAt: clock.at, endAt: clock.at }));
      const before = rollups.facts().minuteRows;
      const ms = elapsedMs(() => store.append({ rows, ledger: { "rows.offered": rows.length } }));
      (rollups.facts().minuteRows > before ? withMinute : plain).push(ms);
      clock.at += 1000;
    }
    const all = [...plain, ...withMinute];
    const seconds = all.reduce((sum, ms) => sum + ms, 0) / 1000;
    return {
      rowsPerSecond: (all.length * batch.length) / seconds,
      minuteMs: least(withMinute) - least(plain),
    };
  });
}

/** Hours with the most rows that are kept of one, nine in ten with IPv4 ends. */
function withHours<Result>(hours: number, ask: (reader: Reader) => Result): Result {
  return inDir((dir) => {
    const path = join(dir, "fovea.db");
    const database = openDatabase({ path });
    database.exec(createSql(1));
    database.exec(`
      WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${hours * 1250 - 1})
      INSERT INTO rollup_hours SELECT i + 1, ${startAt} + i / 1250 * ${hourMs},
        iif(i % 10 = 9, randomblob(16), 167772160 + i * 7919 % 3001), 3232235776 + i * 31 % 777,
        (i % 5) * 111, iif(i % 3 = 0, 17, 6), i % 2, i % 5 = 4, iif(i % 5 = 4, 'NETFILTER_DROP', NULL),
        1 + i % 30, i * 977 % 50000, i * 7877 % 50000000 FROM n;
      INSERT INTO state VALUES ('rollup_hour_id', ${hours * 1250});`);
    database.close();
    const reading = openDatabase({ path, readonly: true });
    const strings = openStrings({ database: reading, lastSeq: 0, oldestSeq: () => 0, stringsMax: 10 });
    try {
      return ask(openReader({ database: reading, generation: 1, strings, lastSeq: () => 0, scanMax: 1 }));
    } finally {
      reading.close();
    }
  });
}

const asked: readonly TopKey[] = ["address", "pair", "port"];

function queries(hours: number): ReturnType<typeof createRecord> {
  const found = createRecord();
  withHours(hours, (reader) => {
    const toAt = startAt + (hours - 48) * hourMs;
    for (let round = 0; round < ROUNDS; round++)
      for (const by of asked)
        found.add(
          by,
          elapsedMs(() => {
            const { total } = queryTop(reader, { by, fromAt: toAt - day, toAt });
            if (total.records === 0) throw new Error("the day is empty");
          }),
        );
    found.add(
      "all",
      elapsedMs(() => queryTop(reader, { by: "address" })),
    );
  });
  return found;
}

/** What the main thread pays for a query with as many keys pending as there may be. */
function pendingMs(): number {
  const now = () => startAt;
  const rollups = createRollups({ keysMax, minuteAgeMaxMs: day, hourAgeMaxMs: day, now });
  const records: FlowRecord[] = Array.from({ length: 16_000 }, (_, number) =>
    flow(8, { source: `10.0.${number >> 8}.${number & 255}`, destinationPort: 443 }),
  );
  rollups.rows?.(records.map(checkRow).filter((row) => typeof row !== "string"));
  const query: TopQuery = { by: "pair" };
  const ask = () => elapsedMs(() => structuredClone({ ...query, pending: rollups.pending(query) }));
  return least(Array.from({ length: ROUNDS }, ask));
}

export async function rollupsBench(hours = 90 * 24): Promise<BenchRow[]> {
  const { rowsPerSecond, minuteMs: written } = appends();
  const found = queries(hours);
  const days = `of ${hours / 24} days of hours, ${(hours * 1250).toLocaleString("en")} rows`;
  return [
    { name: "rollups, 500 keys", value: nsPerRecord(500), unit: "ns/record", budget: { max: 1500 } },
    { name: "rollups, 12,000 keys", value: nsPerRecord(12_000), unit: "ns/record", budget: { max: 1500 } },
    {
      name: "rollups, each record a key",
      value: nsPerRecord(100_000),
      unit: "ns/record",
      budget: { max: 1500 },
      note: "more keys than have a place: the lesser half goes, again and again",
    },
    {
      name: "append with rollups",
      value: rowsPerSecond,
      unit: "rows/s",
      budget: { min: 120_000 },
      note: "5,000 rows a second of the clock, minutes written among them",
    },
    { name: "a minute of 1,250 rows, written", value: written, unit: "ms", budget: { max: 50 } },
    ...asked.map(
      (by): BenchRow => ({
        name: `a day's top by ${by}`,
        value: found.median(by),
        unit: "ms",
        budget: { max: 100 },
        note: days,
      }),
    ),
    { name: "top by address of all of it", value: found.median("all"), unit: "ms" },
    {
      name: "main thread a query, 16,000 keys pending",
      value: pendingMs(),
      unit: "ms",
      budget: { max: 50 },
    },
  ];
}

if (import.meta.main) console.table(await rollupsBench(Number(process.argv[2] ?? 90) * 24));
