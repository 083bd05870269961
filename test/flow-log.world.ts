// A flow log in a directory of its own, with a clock that is set by hand, for the tests of it.

import { expect } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { FlowRecord } from "../src/flow.ts";
import { createFlowLog, type FlowLog, type FlowLogFacts, type FlowLogOptions } from "../src/flow-log.ts";
import { hubbleLine } from "../src/hubble.ts";
import { errorText } from "../src/log.ts";
import { flow, startAt } from "./store.flows.ts";

export const hour = 3_600_000;
export const day = 24 * hour;
export const nodeName = "node-1";
export const line = (record: FlowRecord): string => `${hubbleLine(record, { nodeName })}\n`;
export const text = (records: readonly FlowRecord[]): string => records.map(line).join("");
export const lineBytes = line(flow(0)).length;

const made: string[] = [];
const mounts: string[] = [];

/** To be called when all tests of a file are done; the next file may use this module again. */
export function removeWorlds(): void {
  for (const path of mounts.splice(0).toReversed()) run("umount", path);
  for (const path of made.splice(0)) rmSync(path, { recursive: true });
}

/** A path at which there is nothing yet. */
export function freshDir(): string {
  const parent = mkdtempSync(join(tmpdir(), "fovea-flow-log-"));
  made.push(parent);
  return join(parent, "log");
}

export function run(...command: string[]): void {
  const { stderr, exitCode } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
}

export function mount(...command: string[]): void {
  run("mount", ...command);
  mounts.push(command.at(-1)!);
}

type World = {
  readonly log: FlowLog;
  readonly dir: string;
  readonly file: string;
  /** Failures and recoveries as they were told. */
  readonly told: string[];
  now: number;
  write(...records: FlowRecord[]): void;
} & AsyncDisposable;

export function open(changes: Partial<FlowLogOptions> & { readonly dir?: string } = {}): World {
  const { dir = freshDir(), ...options } = changes;
  const file = join(dir, "flows.log");
  const told: string[] = [];
  const log = createFlowLog({
    file,
    bytesMax: 1024 * 1024,
    filesMax: 5,
    ageMaxMs: 5 * day,
    compress: false,
    nodeName,
    now: () => world.now,
    failed: (error) => told.push(errorText(error)),
    recovered: (lines) => told.push(`recovered after ${lines}`),
    ...options,
  });
  const world: World = {
    log,
    dir,
    file,
    told,
    now: startAt,
    write: (...records) => log.write(records, []),
    [Symbol.asyncDispose]: () => log[Symbol.asyncDispose](),
  };
  return world;
}

export const rotatedName = /^flows-\d{8}T\d{9}Z\.log(\.gz)?$/;

/** Rotated files, oldest first; nothing else may stand beside them but the log and what is named. */
export function rotated(dir: string, others: readonly string[] = []): string[] {
  const names = readdirSync(dir).filter((name) => name !== "flows.log" && !others.includes(name));
  expect(names.filter((name) => !rotatedName.test(name))).toEqual([]);
  return names.toSorted().map((name) => join(dir, name));
}

export const content = (file: string): string => {
  const bytes = readFileSync(file);
  return (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
};

/** All lines that are there, oldest first. */
export const everything = (dir: string): string =>
  [...rotated(dir), join(dir, "flows.log")].map(content).join("");

/** Whether no file waits for its compression, or is in the middle of it. */
export const allPacked = (dir: string): boolean =>
  readdirSync(dir).every((name) => name === "flows.log" || name.endsWith(".gz"));

export async function until(condition: () => boolean): Promise<void> {
  for (const started = Date.now(); !condition(); await Bun.sleep(5))
    if (Date.now() - started > 30_000) throw new Error("It did not come to that within 30 s.");
}

export const lostOf = ({ lost }: FlowLogFacts): number =>
  Object.values(lost).reduce((sum, lines) => sum + lines, 0);
