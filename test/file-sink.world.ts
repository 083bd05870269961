// What the tests of the file sink share: directories, sinks on them, parcels, and other programs as readers.

import { expect } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { EncoderSpec } from "../src/sinks/encoder.ts";
import { encoders } from "../src/sinks/encoders.ts";
import { createFileSink, type FileSinkOptions } from "../src/sinks/file.ts";
import { type FileSinkConfig, sinkSchema } from "../src/sinks/schema.ts";
import type { Lane, Outcome, Parcel, Sink } from "../src/sinks/sink.ts";
import { flow } from "./store.flows.ts";

export const startAt = Date.UTC(2026, 0, 2, 3, 4, 5);
const never = new AbortController().signal;
const made: string[] = [];

export function removeDirs(): void {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true });
}

/** A directory in one of its own, so that it can be taken away. */
export function freshDir(): string {
  const root = mkdtempSync(join(tmpdir(), "fovea-file-sink-"));
  made.push(root);
  const dir = join(root, "disk");
  mkdirSync(dir);
  return dir;
}

export type Rig = AsyncDisposable & {
  readonly sink: Sink;
  readonly clock: { at: number };
  send(parcel: Parcel, abort?: AbortSignal): Promise<Outcome>;
};

export function openSink(
  dir: string,
  changes: Record<string, unknown> = {},
  { node = "edge-1", ...more }: Partial<Omit<FileSinkOptions, "config">> & { readonly node?: string } = {},
): Rig {
  const clock = { at: startAt };
  const config = sinkSchema.parse({
    name: "disk",
    type: "file",
    directory: dir,
    ...changes,
  }) as FileSinkConfig;
  const sink = createFileSink({
    config,
    identity: { node, cluster: "plant", version: "1.2.3" },
    now: () => clock.at,
    ...more,
  });
  return {
    sink,
    clock,
    send: (parcel, abort = never) => sink.send(parcel, abort),
    [Symbol.asyncDispose]: () => sink[Symbol.asyncDispose](),
  };
}

export const specOf = (signal: "flows" | "metrics", compress = true): EncoderSpec => ({
  ...{ format: signal === "flows" ? "ndjson" : "prometheus-text", node: "edge-1", cluster: "plant" },
  ...{ version: "1.2.3", externalLabels: {}, options: { compress } },
});

const limits = { bytesMax: Number.POSITIVE_INFINITY, now: startAt };

const parcelOf = (parcel: Pick<Parcel, "signal" | "body" | "records" | "firstAt" | "lastAt">): Parcel => ({
  ...{ lane: "live", markers: 0, format: specOf(parcel.signal).format },
  ...parcel,
});

/** Rows with the seqs `from` to `to`. */
export function flowsParcel(from: number, to = from, { compress = true } = {}): Parcel {
  const encoder = encoders.ndjson!.flows!(specOf("flows", compress), limits);
  for (let seq = from; seq <= to; seq++)
    encoder.add({ ...flow(seq, { endAt: startAt + seq }), seq }, `edge-1/1/${seq}`);
  return parcelOf({
    ...{ signal: "flows", body: encoder.finish().body, records: to - from + 1 },
    ...{ firstAt: startAt + from, lastAt: startAt + to },
  });
}

export const metricNames = ["kappie_load", "fovea_seen_total"] as const;

/** Two series, a sample a second from `from` to `to`, series by series. */
export function metricsParcel(
  from: number,
  to: number,
  { compress = true, lane = "live" }: { readonly compress?: boolean; readonly lane?: Lane } = {},
): Parcel {
  const encoder = encoders["prometheus-text"]!.metrics!(specOf("metrics", compress), limits);
  for (const name of metricNames) {
    const series = { name, labels: { node: "edge-1" } };
    for (let second = from; second <= to; second++) encoder.add(series, startAt + second * 1000, second / 4);
    encoder.add(series, startAt + to * 1000 + 1, null);
  }
  const { body } = encoder.finish();
  const span = { firstAt: startAt + from * 1000, lastAt: startAt + to * 1000 };
  return { ...parcelOf({ signal: "metrics", body, records: 2 * (to - from + 1), ...span }), lane };
}

export const filesIn = (dir: string): string[] => readdirSync(dir).toSorted();

/** The complete files, without their checksums. */
export const wholeIn = (dir: string): string[] =>
  filesIn(dir).filter((name) => /\.(ndjson|prom)(\.gz)?$/.test(name));

export function run(dir: string, ...command: readonly string[]): string {
  const done = Bun.spawnSync([...command], { cwd: dir });
  if (done.exitCode !== 0) throw new Error(`${command.join(" ")}: ${done.stderr}`);
  return done.stdout.toString();
}

const isWindows = process.platform === "win32";

/** What stands in a file, as zcat has it where there is one. */
export function textOf(dir: string, name: string): string {
  const packed = /\.gz(\.part)?$/.test(name);
  if (packed && !isWindows) return run(dir, "sh", "-c", `zcat < ${name}`);
  const bytes = readFileSync(join(dir, name));
  return (packed ? gunzipSync(bytes) : bytes).toString();
}

export const seqsIn = (dir: string, name: string): number[] =>
  textOf(dir, name)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line).seq);

export const seqs = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

function checkSum(dir: string, name: string): void {
  if (!isWindows) {
    run(dir, "sha256sum", "--strict", "-c", `${name}.sha256`);
    return;
  }
  const sum = createHash("sha256")
    .update(readFileSync(join(dir, name)))
    .digest("hex");
  expect(readFileSync(join(dir, `${name}.sha256`), "utf8")).toBe(`${sum}  ${name}\n`);
}

/** Throws unless each complete file has its checksum, and it is right. */
export function checkSums(dir: string): void {
  for (const name of wholeIn(dir)) checkSum(dir, name);
}

function promtool(): string {
  const found = Bun.which("promtool");
  if (found === null)
    throw new Error("promtool is missing: install the package prometheus (Debian, Ubuntu); npm test does it");
  return found;
}

/** The samples that Prometheus has after it read these files, one block or more each: series, seconds, value. */
export function samplesIn(dir: string, names: readonly string[]): string[] {
  const database = join(dir, "..", "database");
  if (existsSync(database)) rmSync(database, { recursive: true });
  mkdirSync(join(database, "wal"), { recursive: true }); // It dumps nothing without.
  for (const [index, name] of names.entries()) {
    const plain = join(dir, "..", `text-${index}`);
    run(dir, "sh", "-c", `${name.endsWith(".gz") ? "zcat" : "cat"} < ${name} > ${plain}`);
    run(dir, promtool(), "tsdb", "create-blocks-from", "openmetrics", plain, database);
  }
  return run(dir, promtool(), "tsdb", "dump", database).trim().split("\n").toSorted();
}

/** What `samplesIn` says of the parcels of these seconds. */
export const samplesOf = (seconds: readonly number[]): string[] =>
  metricNames
    .flatMap((name) =>
      seconds.map((second) => `{__name__="${name}", node="edge-1"} ${second / 4} ${startAt + second * 1000}`),
    )
    .toSorted();
