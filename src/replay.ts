// A Backend that plays a recording, on any machine; and the lines of such a recording.

import { readFileSync, statSync } from "node:fs";
import type { z } from "zod";
import type { FlowRecord } from "./flow.ts";
import { errorText } from "./log.ts";
import { grownBy, growth } from "./replay-counts.ts";
import { type RecordedTick, recordedTickSchema } from "./replay-schema.ts";
import type { Backend, Collector, Snapshot } from "./snapshot.ts";

export type Replay = Backend & {
  /** Resolves when every collector has played its last line; never when the recording loops. */
  readonly ended: Promise<void>;
};

export const recordingLineMax = 64 * 2 ** 20;
export const recordingBytesMax = 512 * 2 ** 20;

const withTimes = (flows: readonly FlowRecord[], shiftMs: number): readonly FlowRecord[] =>
  flows.map((flow) => ({ ...flow, startAt: flow.startAt + shiftMs, endAt: flow.endAt + shiftMs }));

const issueText = ({ path, message }: z.core.$ZodIssue): string =>
  `${path.length === 0 ? "the line" : path.map(String).join(".")}: ${message}`;

/** One line as a tick; throws an error with the place of what is wrong. */
function parseTick(line: string, where: string): RecordedTick {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Error(`${where} is no JSON: ${errorText(error)}`, { cause: error });
  }
  const { data, error } = recordedTickSchema.safeParse(value);
  const issue = error?.issues[0];
  if (issue !== undefined) throw new Error(`${where}: ${issueText(issue)}`);
  if (data === undefined) throw new Error(`${where} is no tick of a recording`);
  return data;
}

type Line = { readonly number: number; readonly text: string };

function readLines(options: { file: string; lineBytesMax: number; fileBytesMax: number }): readonly Line[] {
  const { file, lineBytesMax, fileBytesMax } = options;
  const { size } = statSync(file);
  if (size > fileBytesMax) throw new Error(`recording ${file} has ${size} bytes, more than ${fileBytesMax}`);
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .map((text, index): Line => ({ number: index + 1, text }))
    .filter(({ text }) => text.trim() !== "");
  const long = lines.find(({ text }) => text.length > lineBytesMax);
  if (long !== undefined)
    throw new Error(`${file}:${long.number} has ${long.text.length} characters, more than ${lineBytesMax}`);
  if (lines.length === 0) throw new Error(`recording ${file} has no line`);
  return lines;
}

/** What must be known of a whole recording before it plays. */
type Recording = {
  readonly names: readonly string[];
  readonly length: number;
  tick(index: number): { readonly tick: RecordedTick; readonly where: string };
  /** How much the counts of a collector grow from its first snapshot to its last. */
  growthOf(name: string): ReadonlyMap<string, number>;
};

/** Lines stay text until they play: parsed, a large recording would not fit into memory. */
function openRecording(file: string, lines: readonly Line[]): Recording {
  const first = new Map<string, Snapshot>();
  const last = new Map<string, Snapshot>();
  const tick = (index: number) => {
    const { number, text } = lines[index] ?? { number: 0, text: "" };
    const where = `${file}:${number}`;
    return { tick: parseTick(text, where), where };
  };
  for (const index of lines.keys())
    for (const [name, snapshot] of Object.entries(tick(index).tick.snapshots)) {
      if (!first.has(name)) first.set(name, snapshot);
      last.set(name, snapshot);
    }
  return {
    names: [...first.keys()],
    length: lines.length,
    tick,
    growthOf: (name) => growth(first.get(name) ?? {}, last.get(name) ?? {}),
  };
}

/** Without what is handed over once. */
const atRest = ({ flows: _, dnsAnswers: __, dnsErrors: ___, ...state }: Snapshot): Snapshot => state;

/** The lines for one collector, one a call. */
function play(options: {
  readonly name: string;
  readonly recording: Recording;
  readonly loop: boolean;
  readonly now: () => number;
  readonly ended: () => void;
}): Collector {
  const { name, recording, loop, now, ended } = options;
  const grows = recording.growthOf(name);
  let calls = 0;
  let rest: Snapshot | undefined;
  const next = (): Snapshot => {
    const { tick, where } = recording.tick(calls % recording.length);
    const round = Math.floor(calls / recording.length);
    calls += 1;
    if (calls === recording.length && !loop) ended();
    const recorded = tick.snapshots[name];
    if (recorded === undefined)
      throw new Error(`${where} has no snapshot of ${name}: it failed when this was recorded`);
    const { flows, ...others } = grownBy(recorded, grows, round);
    const snapshot = flows === undefined ? others : { ...others, flows: withTimes(flows, now() - tick.atMs) };
    rest = atRest(snapshot);
    return snapshot;
  };
  return {
    name,
    collect: (signal) => {
      signal.throwIfAborted();
      if (calls < recording.length || loop) return next();
      if (rest === undefined) throw new Error(`the recording has ended`);
      return rest;
    },
  };
}

/**
 * One line of the recording a tick, whatever the pace. At the end it begins again with `loop`, counts going on from
 * where they were; without, the last state stands.
 */
export function openReplay(options: {
  readonly file: string;
  readonly loop: boolean;
  readonly now: () => number;
  readonly lineBytesMax?: number;
  readonly fileBytesMax?: number;
}): Replay {
  const { file, loop, now, lineBytesMax = recordingLineMax, fileBytesMax = recordingBytesMax } = options;
  const recording = openRecording(file, readLines({ file, lineBytesMax, fileBytesMax }));
  if (recording.names.length === 0) throw new Error(`recording ${file} has no snapshot`);
  const end = Promise.withResolvers<void>();
  let playing = recording.names.length;
  const ended = () => {
    playing -= 1;
    if (playing === 0) end.resolve();
  };
  return {
    collectors: recording.names.map((name) => play({ name, recording, loop, now, ended })),
    ended: end.promise,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** One line of a recording. `startedAt` and `at` are epoch milliseconds. */
export function recordTick(options: {
  readonly startedAt: number;
  readonly at: number;
  readonly snapshots: Readonly<Record<string, Snapshot>>;
}): string {
  const { startedAt, at, snapshots } = options;
  const recorded = Object.entries(snapshots).map(([name, snapshot]): [string, Snapshot] => {
    const { flows, ...others } = snapshot;
    return [name, flows === undefined ? others : { ...others, flows: withTimes(flows, -startedAt) }];
  });
  return `${JSON.stringify({ atMs: at - startedAt, snapshots: Object.fromEntries(recorded) })}\n`;
}
