// What a query costs in ten million rows: the first page of many filters, and a scrape while the worker is busy.

import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createExposition } from "../../src/exposition.ts";
import type { FlowRecord } from "../../src/flow.ts";
import { createBatchValues } from "../../src/store/batch-summary.ts";
import { openQueries, type Queries } from "../../src/store/queries.ts";
import type { FlowPage, FlowQuery } from "../../src/store/query.ts";
import { checkRow } from "../../src/store/rows.ts";
import { openDatabase } from "../../src/store/sqlite.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { median } from "./rounds.ts";
import type { BenchRow } from "./row.ts";
import { bigView } from "./scrape.bench.ts";

const rowsWanted = 10_000_000;
const partRows = 1_000_000;
const secondRows = 500;
const hour = 3_600_000;
const startAt = Date.UTC(2026, 0, 1);
const partMs = (partRows / secondRows) * 1000;
const endAt = startAt + (rowsWanted / secondRows) * 1000;

const rare = {
  source: "203.0.113.77",
  destinationPort: 9,
  verdict: "dropped",
  dropReason: "TC_COOKIE_ERROR",
} as const satisfies Partial<FlowRecord>;

/** Numbers that look random and are the same in each run. */
function createRandom() {
  let state = 0x2545f491;
  return (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Places 0 to count - 1, each as likely as one through its rank. */
function createZipf(count: number, random: () => number): () => number {
  const sums = new Float64Array(count);
  for (let rank = 0, sum = 0; rank < count; rank++) {
    sum += 1 / (rank + 1);
    sums[rank] = sum;
  }
  const total = sums[count - 1] ?? 1;
  return () => {
    const wanted = random() * total;
    let low = 0;
    for (let high = count - 1; low < high; ) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

const host = (rank: number): string =>
  rank % 8 === 7
    ? `fd00:10:${(rank >> 5).toString(16)}::${rank.toString(16)}`
    : `10.42.${rank % 13}.${rank >> 2}`;
const outside = (number: number): string => `${80 + (number % 90)}.${(number >> 8) & 255}.${number & 255}.9`;
const services = [443, 53, 80, 8080, 5432, 6379, 9090, 10250, 2379, 3306, 22, 123, 9200, 5672, 9092, 389];
const reasons = ["NETFILTER_DROP", "NO_SOCKET", "TCP_INVALID_SEQUENCE", "SOCKET_RCVBUFF", "TCP_OFOMERGE"];

/** A node with 600 hosts around it, few of which make most of the traffic; one in twenty flows leads outside. */
function createTraffic() {
  const random = createRandom();
  const [hosts, ports, causes] = [600, services.length, reasons.length].map((count) =>
    createZipf(count, random),
  );
  return (at: number): FlowRecord => {
    const service = services[ports?.() ?? 0] ?? 443;
    const far = random() < 0.05 ? outside(Math.floor(random() * 65_536)) : host(hosts?.() ?? 0);
    const answer = random() < 0.5;
    const client = 32_768 + Math.floor(random() * 28_232);
    const dropped = random() < 0.01;
    return {
      startAt: at - Math.floor(random() * 30_000),
      endAt: at - Math.floor(random() * 1000),
      source: answer ? far : host(hosts?.() ?? 0),
      destination: answer ? host(hosts?.() ?? 0) : far,
      sourcePort: answer ? service : client,
      destinationPort: answer ? client : service,
      protocol: service === 53 || service === 123 ? 17 : 6,
      direction: answer ? "ingress" : "egress",
      verdict: dropped ? "dropped" : "forwarded",
      ...(dropped ? { dropReason: reasons[causes?.() ?? 0] ?? "" } : {}),
      packets: 1 + Math.floor(random() * 500),
      bytes: 60 + Math.floor(random() * 500_000),
      tcpFlags: 27,
      interface: `veth${hosts?.() ?? 0}`,
      evictReason: "idle",
    };
  };
}

const open = (dir: string, now: number): Store =>
  openStore({ dir, bytesMax: 4 * 2 ** 30, ageMaxMs: 30 * 24 * hour, now: () => now, checkBytesMax: 0 });

/** A tick a second, as the appliance would. One row in the middle is unlike all others. */
function appendPart(store: Store, fromAt: number, middle: Partial<FlowRecord>): void {
  const flowAt = createTraffic();
  for (let row = 0; row < partRows; row += secondRows) {
    const at = fromAt + (row / secondRows) * 1000;
    const rows = Array.from({ length: secondRows }, () => flowAt(at));
    if (row === partRows / 2) rows[0] = { ...flowAt(at), ...middle };
    const { kept } = store.append({ rows, at, ledger: { "rows.offered": secondRows } });
    if (kept !== secondRows) throw new Error(`${secondRows - kept} of ${secondRows} rows were not kept`);
  }
}

/** The first part of the file again and again, each time as much later as it lasts. */
function repeatPart(dir: string, times: number): void {
  const database = openDatabase({ path: join(dir, "fovea.db") });
  const names = (table: string): string[] =>
    (database.pragma(`table_info(${table})`) as { name: string }[]).map(({ name }) => name);
  const repeat = (table: string, shifts: Readonly<Record<string, number>>): void => {
    const columns = names(table);
    const values = columns.map((name) => (shifts[name] === undefined ? name : `${name} + ${shifts[name]}`));
    database.exec(
      `INSERT INTO ${table} (${columns.join(", ")}) SELECT ${values.join(", ")} FROM ${table}
       WHERE ${table === "flows" ? "seq" : "first_seq"} <= ${partRows} ORDER BY 1`,
    );
  };
  for (let time = 1; time <= times; time++) {
    const [rows, ms] = [time * partRows, time * partMs];
    database.exec("BEGIN");
    repeat("flows", { seq: rows, end_at: ms });
    repeat("batches", { first_seq: rows, last_seq: rows, at: ms, end_min: ms, end_max: ms });
    database.exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
  }
  const all = partRows * (times + 1);
  database.exec(`UPDATE state SET value = ${all} WHERE name = 'seq';
    UPDATE ledger SET value = ${all} WHERE name IN ('rows.kept', 'rows.offered')`);
  database.close();
}

/** Ten million rows of the last 5.5 hours. */
function fill(dir: string): Store {
  {
    using store = open(dir, startAt);
    appendPart(store, startAt, {});
  }
  repeatPart(dir, rowsWanted / partRows - 2);
  const store = open(dir, endAt);
  appendPart(store, endAt - partMs, rare);
  return store;
}

const summaryRows = 8000;

/** What an append pays for the summaries: each row is added to its batch's, each batch gives one. */
function summaryNs(): number {
  const flowAt = createTraffic();
  const rows = Array.from({ length: 10 * summaryRows }, (_, row) =>
    checkRow(flowAt(startAt + row * 2)),
  ).filter((row) => typeof row !== "string");
  const took: number[] = [];
  for (let round = 0; round < 2 * rounds; round++) {
    const startMs = performance.now();
    for (let row = 0; row < rows.length; row += summaryRows) {
      const values = createBatchValues();
      for (let tick = row; tick < row + summaryRows; tick += secondRows)
        values.add(rows.slice(tick, tick + secondRows));
      values.summary(summaryRows);
    }
    took.push(((performance.now() - startMs) * 1e6) / rows.length);
  }
  return median(took);
}

function summaryBytes(dir: string): number {
  const database = openDatabase({ path: join(dir, "fovea.db"), readonly: true });
  const sql =
    "SELECT sum(length(summary)) * 1.0 / sum(last_seq - first_seq + 1) FROM batches WHERE summary NOT NULL";
  const bytes = database.prepare<unknown[], number>(sql).pluck().get() ?? Number.NaN;
  database.close();
  return bytes;
}

const summaryRowsOf = (dir: string): BenchRow[] => [
  { name: "summary of a batch, time", value: summaryNs(), unit: "ns a row", budget: { max: 300 } },
  { name: "summary of a batch, size", value: summaryBytes(dir), unit: "bytes a row", budget: { max: 1.5 } },
];

type Asked = { readonly name: string; readonly query: FlowQuery };

const asked: readonly Asked[] = [
  { name: "no filter", query: {} },
  { name: "a common address", query: { addresses: [host(0)] } },
  { name: "an address that one row has", query: { addresses: [rare.source] } },
  { name: "an address that no row has", query: { addresses: ["198.51.100.1"] } },
  { name: "a common network", query: { sources: ["10.42.3.0/24"] } },
  { name: "a /22 that no row has", query: { addresses: ["198.51.100.0/22"] } },
  { name: "a /9 that no row has", query: { addresses: ["11.128.0.0/9"] } },
  { name: "a common port", query: { ports: [443] } },
  { name: "a port that one row has", query: { destinationPorts: [rare.destinationPort] } },
  { name: "a client's port", query: { ports: [40_000] } },
  { name: "a protocol that no row has", query: { protocol: 132 } },
  { name: "what was dropped", query: { verdict: "dropped" } },
  { name: "a drop reason that one row has", query: { dropReason: rare.dropReason } },
  { name: "a common drop reason, one way", query: { dropReason: "NO_SOCKET", direction: "ingress" } },
  {
    name: "common values that never meet",
    query: { sources: ["10.42.3.0/24"], sourcePorts: [443], destinationPorts: [53] },
  },
];

const quantile = (values: readonly number[], part: number): number => {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
};

const rounds = 15;

async function firstPage(queries: Queries, { name, query }: Asked): Promise<BenchRow> {
  const took: number[] = [];
  let page: FlowPage | undefined;
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now();
    page = await queries.flows({ fromAt: endAt - hour, toAt: endAt, limit: 100, ...query });
    took.push(performance.now() - startMs);
  }
  const end =
    page?.more === false ? "all of the hour" : page?.flows.length === 100 ? "a full page" : "goes on";
  const looked = `${page?.flows.length ?? 0} rows of ${page?.scanned ?? 0} looked at, ${end}`;
  return {
    name: `first page of the last hour: ${name}`,
    value: quantile(took, 1),
    unit: "ms",
    budget: { max: 150 },
    note: `the slowest of ${rounds}; median ${median(took).toFixed(1)} ms; ${looked}`,
  };
}

/** A query that must look at every row of ten million, a hundred milliseconds after another. */
async function scanAll(queries: Queries, until: () => boolean): Promise<number> {
  let count = 0;
  for (let cursor: string | undefined; !until(); count++) {
    const { more, cursor: next } = await queries.flows({
      destinations: ["11.128.0.0/9"],
      ...(cursor === undefined ? {} : { cursor }),
    });
    cursor = more ? next : undefined;
  }
  return count;
}

const scrapeRounds = 300;

async function scrapes(): Promise<readonly number[]> {
  const exposition = createExposition({ names: ["kappie"], seriesMax: 20_000 });
  const view = bigView();
  const took: number[] = [];
  for (let round = 0; round < scrapeRounds; round++) {
    const dueMs = performance.now() + 5;
    await Bun.sleep(5);
    await exposition.render(view, "text/plain");
    took.push(performance.now() - dueMs); // What delayed the start counts.
  }
  return took.slice(scrapeRounds / 10);
}

async function scrapeRow(queries: Queries): Promise<BenchRow> {
  const alone = await scrapes();
  let over = false;
  const scanning = scanAll(queries, () => over);
  const busy = await scrapes();
  over = true;
  const count = await scanning;
  const figures = (took: readonly number[]): string =>
    `median ${median(took).toFixed(1)}, 99 of 100 within ${quantile(took, 0.99).toFixed(1)} ms`;
  return {
    name: "scrape of 10,000 series while the worker scans, 99 of 100",
    value: quantile(busy, 0.99),
    unit: "ms",
    budget: { max: 50 },
    note: `${figures(busy)} beside ${count} queries; without ${figures(alone)}`,
  };
}

async function firstRow(store: Store): Promise<BenchRow> {
  const took: number[] = [];
  for (let round = 0; round < 5; round++) {
    await using queries = openQueries({ store });
    const startMs = performance.now();
    await queries.flows({ limit: 1 });
    took.push(performance.now() - startMs);
  }
  return { name: "query that starts the worker, from source", value: median(took), unit: "ms" };
}

export async function queriesBench(): Promise<BenchRow[]> {
  const dir = mkdtempSync(join(tmpdir(), "fovea-bench-"));
  try {
    const startMs = performance.now();
    using store = fill(dir);
    const made = `${((performance.now() - startMs) / 1000).toFixed(0)} s to make it`;
    const gib = statSync(join(dir, "fovea.db")).size / 2 ** 30;
    await using queries = openQueries({ store });
    const rows: BenchRow[] = [
      { name: "store of 10 million rows", value: gib, unit: "GiB", note: made },
      ...summaryRowsOf(dir),
      await firstRow(store),
    ];
    for (const one of asked) rows.push(await firstPage(queries, one));
    rows.push(await scrapeRow(queries));
    return rows;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

if (import.meta.main) for (const row of await queriesBench()) console.log(row);
