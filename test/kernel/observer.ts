// The backend under test: a process of its own in the namespace that it observes, asked tick by tick.

import { join } from "node:path";
import type { LinuxOptions } from "../../bpf/backend.ts";
import type { Direction, FlowRecord } from "../../src/flow.ts";
import type { PacketCount, Snapshot, TcpFlag } from "../../src/snapshot.ts";
import type { TestNamespace } from "./proc-namespace.ts";

export type ObserverOptions = {
  readonly interfaces?: Partial<LinuxOptions["interfaces"]>;
  readonly flows?: Partial<LinuxOptions["flows"]>;
  readonly dnsEnabled?: boolean;
  readonly owner?: LinuxOptions["owner"];
};

/** One tick of the process. */
export type Answer = {
  readonly snapshots: Readonly<Record<string, Snapshot>>;
  readonly errors: Readonly<Record<string, string>>;
  readonly residentBytes: number;
  readonly files: number;
  readonly durationMs: number;
};

/** Matches rows whose fields are all equal. */
export type RowFilter = Partial<FlowRecord>;

export type RowSum = PacketCount & {
  readonly rows: number;
  readonly tcpFlags: number;
  readonly retransmits: number;
};

const untilMsMax = 25_000;

export const matching = (rows: readonly FlowRecord[], filter: RowFilter): readonly FlowRecord[] => {
  const wanted = Object.entries(filter);
  return rows.filter((row) => wanted.every(([field, value]) => row[field as keyof FlowRecord] === value));
};

export function sumRows(rows: readonly FlowRecord[]): RowSum {
  const zero: RowSum = { packets: 0, bytes: 0, rows: 0, tcpFlags: 0, retransmits: 0 };
  return rows.reduce(
    (sum, row) => ({
      packets: sum.packets + row.packets,
      bytes: sum.bytes + row.bytes,
      rows: sum.rows + 1,
      tcpFlags: sum.tcpFlags | row.tcpFlags,
      retransmits: sum.retransmits + (row.retransmits ?? 0),
    }),
    zero,
  );
}

export type Observer = AsyncDisposable & {
  readonly pid: number;
  /** Every row so far. */
  readonly rows: readonly FlowRecord[];
  /** The newest of every section. */
  readonly latest: Snapshot;
  /** The newest answer. */
  readonly answer: Answer;
  tick(): Promise<Answer>;
  /** Ticks until the condition holds, or for so long that it never will: what the test expects then says what is wrong. */
  until(done: () => boolean, msMax?: number): Promise<void>;
  /** Packets and bytes of the rows that match; of forwarded ones, unless the filter says so. */
  counted(filter: RowFilter): PacketCount;
  /** The same, with what else can be summed. */
  sum(filter: RowFilter): RowSum;
  totals(direction: Direction): PacketCount;
  flag(flag: TcpFlag, direction: Direction): number;
  /** Both sides of the law of packets, equal when it holds. */
  law(): { readonly seen: number; readonly accounted: number };
  /** What the ledger says was aggregated, and what of it is in rows or was met a second time: equal while each tick reports all. */
  aggregation(): { readonly aggregated: number; readonly inRows: number };
  untracked(reason: string): number;
  /** Frees what JavaScript holds for nothing, so that resident memory can be compared. */
  collectGarbage(): void;
  /** Drains and ends the process; `rows` then has the last rows too. */
  quit(): Promise<void>;
};

function createReader(stream: ReadableStream<Uint8Array>): () => Promise<Answer> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let chunks: string[] = [];
  const lines: string[] = [];
  return async () => {
    while (lines.length === 0) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the observer ended: ${chunks.join("")}`);
      const parts = decoder.decode(value, { stream: true }).split("\n");
      for (const part of parts.slice(0, -1)) {
        lines.push([...chunks, part].join(""));
        chunks = [];
      }
      chunks.push(parts.at(-1) ?? "");
    }
    return JSON.parse(lines.shift() ?? "") as Answer;
  };
}

export async function observe(at: TestNamespace, options: ObserverOptions = {}): Promise<Observer> {
  const script = join(import.meta.dir, "observer-child.ts");
  const child = Bun.spawn(
    ["ip", "netns", "exec", at.name, process.execPath, script, JSON.stringify(options)],
    { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
  );
  const read = createReader(child.stdout);
  const rows: FlowRecord[] = [];
  let latest: Snapshot = {};
  let answer: Answer;

  function take(next: Answer): Answer {
    answer = next;
    for (const snapshot of Object.values(next.snapshots)) {
      latest = { ...latest, ...snapshot };
      for (const row of snapshot.flows ?? []) rows.push(row);
    }
    return next;
  }

  async function ask(command: string): Promise<Answer> {
    await child.stdin.write(`${command}\n`);
    await child.stdin.flush();
    return take(await read());
  }

  const sum = (filter: RowFilter): RowSum => sumRows(matching(rows, { verdict: "forwarded", ...filter }));
  answer = take(await read());
  return {
    pid: child.pid,
    rows,
    get latest() {
      return latest;
    },
    get answer() {
      return answer;
    },
    tick: () => ask("tick"),
    async until(done, msMax = untilMsMax) {
      const endAt = Date.now() + msMax;
      do await ask("tick");
      while (!done() && Date.now() < endAt);
      await ask("tick"); // What comes too much comes now.
    },
    counted(filter) {
      const { packets, bytes } = sum(filter);
      return { packets, bytes };
    },
    sum,
    totals: (direction) => latest.totals?.forward[direction] ?? { packets: 0, bytes: 0 },
    flag: (flag, direction) =>
      latest.totals?.tcpFlags.find((row) => row.flag === flag && row.direction === direction)?.packets ?? 0,
    law() {
      const packets = latest.packets;
      const untracked = packets?.untracked.reduce((all, { packets: count }) => all + count, 0) ?? 0;
      return { seen: packets?.seen ?? 0, accounted: (packets?.aggregated ?? 0) + untracked };
    },
    aggregation() {
      const packets = latest.packets;
      const inRows = rows.reduce((all, row) => all + row.packets, packets?.duplicate ?? 0);
      return { aggregated: packets?.aggregated ?? 0, inRows };
    },
    untracked: (reason) => latest.packets?.untracked.find((row) => row.reason === reason)?.packets ?? 0,
    collectGarbage: () => void child.stdin.write("gc\n"),
    async quit() {
      await ask("quit");
      await child.exited;
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}
