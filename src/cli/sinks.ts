// fovea sinks: what goes upstream, what waits, and what an operator may do about it.

import type { Command } from "commander";
import { z } from "zod";
import {
  type DeadLetterAnswer,
  deadLettersSchema,
  discardedSchema,
  pausedSchema,
  type SinkAnswer,
  sinkSchema,
  sinksSchema,
} from "../api/sink-schemas.ts";
import { flag, outputFlag } from "./flags.ts";
import { counted } from "./missing.ts";
import { printJson, printLines } from "./output.ts";
import { quantity } from "./quantity.ts";
import { addServerFlags, clientOf, type ServerOptions } from "./server.ts";
import { type Column, createTable } from "./table.ts";
import type { World } from "./world.ts";

type Options = ServerOptions & { output: string; olderThan?: string; limit?: string };

// A newer appliance may say more than this one knows.
const known = z.object({ ...sinksSchema.shape, sinks: z.array(z.object(sinkSchema.shape)) });
const knownLetters = z.object(deadLettersSchema.shape);

const agoOf = (seconds: number | undefined): string => {
  if (seconds === undefined) return "";
  const units = [
    [86_400, "d"],
    [3600, "h"],
    [60, "m"],
  ] as const;
  for (const [size, unit] of units) if (seconds >= 2 * size) return `${Math.floor(seconds / size)}${unit}`;
  return `${Math.round(seconds)}s`;
};

const lostOf = ({ counts }: SinkAnswer): number =>
  Object.entries(counts).reduce(
    (sum, [name, records]) => sum + (/^(rejected|expired|evicted)\.|^discarded$/.test(name) ? records : 0),
    0,
  );

const stateColour = ({ state }: SinkAnswer) => {
  if (state === "retrying" || state === "waiting") return "red";
  return state === "live" ? "green" : "yellow";
};

/** Files that were there and gave way: sent, and gone all the same. */
const removedColumn: Column<SinkAnswer> = {
  title: "REMOVED",
  value: ({ files }) => (files === undefined ? "" : `${files.removed} files`),
  rank: 4,
  right: true,
};

const columns: readonly Column<SinkAnswer>[] = [
  { title: "NAME", value: ({ name }) => name, rank: 1, widthMin: 8 },
  { title: "SIGNAL", value: ({ signal }) => signal, rank: 1 },
  { title: "TYPE", value: ({ type }) => type, rank: 6 },
  { title: "STATE", value: ({ state }) => state, rank: 1, colour: stateColour },
  { title: "SENT", value: ({ counts }) => counts["sent"] ?? 0, rank: 3, right: true },
  { title: "PENDING", value: ({ pending }) => pending.records, rank: 2, right: true },
  { title: "BYTES", value: ({ pending }) => quantity(pending.bytes, "B"), rank: 7, right: true },
  { title: "OLDEST", value: ({ pending }) => agoOf(pending.oldestAgeSeconds), rank: 2, right: true },
  { title: "LOST", value: (sink) => lostOf(sink), rank: 2, right: true },
  removedColumn,
  {
    title: "BUFFER",
    value: ({ bufferHoursLeft: hours }) => agoOf(hours === undefined ? undefined : hours * 3600),
    rank: 5,
    right: true,
  },
  { title: "TARGET", value: ({ target }) => target, rank: 8, widthMin: 16 },
  { title: "ERROR", value: ({ state, lastError }) => errorOf(state, lastError), rank: 4, widthMin: 16 },
];

const errorOf = (state: string, error: SinkAnswer["lastError"]): string =>
  error === undefined || state !== "retrying" ? "" : `${error.message} (${error.code}, ${error.times} times)`;

async function list(world: World, options: Options): Promise<void> {
  const answer = await clientOf(world, options).get("sinks", known, new URLSearchParams(), world.stop);
  if (options.output === "json") return await printJson(world.out, answer);
  if (answer.sinks.length === 0) return await world.err.write("fovea: no sinks are configured\n");
  const writes = answer.sinks.some(({ files }) => files !== undefined);
  const shown = columns.filter((column) => writes || column !== removedColumn);
  await printLines(world.out, createTable(shown, world.out).lines(answer.sinks));
}

const letterColumns: readonly Column<DeadLetterAnswer>[] = [
  { title: "TIME", value: ({ at }) => new Date(at).toISOString(), rank: 1 },
  { title: "SINK", value: ({ sink }) => sink, rank: 2, widthMin: 8 },
  { title: "SIGNAL", value: ({ signal }) => signal, rank: 3 },
  { title: "REASON", value: ({ reason }) => reason, rank: 1 },
  { title: "CODE", value: ({ code }) => code, rank: 4 },
  { title: "RECORDS", value: ({ records }) => records, rank: 2, right: true },
  { title: "MESSAGE", value: ({ message }) => message, rank: 2, widthMin: 24 },
  { title: "RECORD", value: ({ text }) => text, rank: 5, widthMin: 24 },
];

async function letters(world: World, sink: string | undefined, options: Options): Promise<void> {
  const query = new URLSearchParams({
    ...(sink === undefined ? {} : { sink }),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
  });
  const answer = await clientOf(world, options).get("sinks/dead-letters", knownLetters, query, world.stop);
  if (options.output === "json") return await printJson(world.out, answer);
  await printLines(world.out, createTable(letterColumns, world.out).lines([...answer.deadLetters]));
}

const request = { headers: { "Content-Type": "application/json" }, body: "" };

async function setPaused(world: World, sink: string, verb: "pause" | "resume", options: Options) {
  const path = `sinks/${encodeURIComponent(sink)}/${verb}`;
  const { paused } = await clientOf(world, options).post(path, pausedSchema, request, world.stop);
  await world.err.write(
    paused
      ? `fovea: ${sink} is paused; its records wait in the store, as long as retention lets them\n`
      : `fovea: ${sink} goes on\n`,
  );
}

async function drop(world: World, sink: string, options: Options): Promise<void> {
  const query = new URLSearchParams(options.olderThan === undefined ? {} : { olderThan: options.olderThan });
  const path = `sinks/${encodeURIComponent(sink)}/drop?${query}`;
  const { records } = await clientOf(world, options).post(path, discardedSchema, request, world.stop);
  await world.err.write(
    `fovea: ${counted(records)} records will not be sent to ${sink}; the store keeps them\n`,
  );
}

export function addSinks(program: Command, world: World): void {
  const verb = program
    .command("sinks")
    .description("what goes upstream, what waits and what was lost; pause, resume and drop need a token");
  const add = (words: string, about: string, isDefault = false) =>
    addServerFlags(verb.command(words, { isDefault }).description(about));
  add("list", "show every sink", true)
    .addOption(outputFlag("table or json", ["table", "json"]))
    .action((options: Options) => list(world, options));
  add("dead-letters [sink]", "show what an upstream will never take, and why")
    .addOption(outputFlag("table or json", ["table", "json"]))
    .addOption(flag("--limit <count>", "show so many, the newest", "FOVEA_QUERY_LIMIT"))
    .action((sink: string | undefined, options: Options) => letters(world, sink, options));
  for (const action of ["pause", "resume"] as const)
    add(
      `${action} <sink>`,
      action === "pause" ? "send nothing more; records wait in the store" : "go on",
    ).action((sink: string, options: Options) => setPaused(world, sink, action, options));
  add("drop <sink>", "give up the backlog of a sink that is older than so much")
    .addOption(flag("--older-than <duration>", "2h, 7d; 0s gives up all", "FOVEA_CLIENT_OLDER_THAN"))
    .action((sink: string, options: Options) => drop(world, sink, options));
}
