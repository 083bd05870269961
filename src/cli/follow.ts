// Follows the flows of an appliance: one stream after the other, each row once, and what is thrown away told.

import { setTimeout as wait } from "node:timers/promises";
import { z } from "zod";
import { thrownBetween } from "../api/supply.ts";
import { errorText } from "../log.ts";
import { type Client, type Flow, knownFlow, mayPass, Refused } from "./client.ts";
import type { Printer } from "./flow-printer.ts";
import { type Counts, counted, missingOf, missingText } from "./missing.ts";
import type { Output } from "./output.ts";

export type Follow = {
  readonly client: Client;
  /** Filters, and where to begin. */
  readonly query: URLSearchParams;
  readonly printer: Printer;
  readonly warn: (text: string) => Promise<void>;
  /** Flows to show, then it ends. */
  readonly limit: number;
  readonly out: Pick<Output, "gone">;
  readonly stop: AbortSignal;
};

const counts = z.record(z.string(), z.number());
const cutSchema = z.object({ reason: z.string(), rowsUnsent: z.number() });
type Cut = z.output<typeof cutSchema>;
const lineSchema = z.union([
  knownFlow.extend({ cursor: z.string() }),
  z.object({ lost: counts, passed: z.number(), cursor: z.string() }),
  z.object({ cut: cutSchema }),
  z.object({ cursor: z.string() }),
]);
const ledgerSchema = z.object({
  totals: counts,
  range: z.object({ lost: counts, lostSince: z.number().optional() }).optional(),
});

const againMs = 1000;
/** A node that throttles does so every second: once in a while is enough to say so. */
const noticeMs = 5000;
const sinceDefault = "10s";

/** Losses while nobody listened are the ledger's growth without what was told. */
function createLosses({ client, stop, warn }: Follow) {
  let known: Counts | undefined;
  let owed: Record<string, number> = {};
  let toldMs = Number.NEGATIVE_INFINITY;
  const add = (to: Record<string, number>, lost: Counts): void => {
    for (const [name, count] of Object.entries(lost)) to[name] = (to[name] ?? 0) + count;
  };
  const tell = async (): Promise<void> => {
    const text = missingText(owed);
    [owed, toldMs] = [{}, performance.now()];
    if (text !== undefined) await warn(`${text} meanwhile`);
  };
  return {
    /** At the beginning of each stream. */
    async connected(query: URLSearchParams): Promise<void> {
      const { totals, range } = await client.get("ledger", ledgerSchema, rangeIn(query), stop);
      if (known === undefined)
        for (const text of range === undefined ? [] : missingOf(range)) await warn(text);
      else add(owed, thrownBetween(known, totals));
      known = totals;
    },
    async noticed(lost: Counts, passed: number): Promise<void> {
      const told: Record<string, number> = { ...known };
      add(told, lost);
      known = told;
      add(owed, lost);
      if (passed > 0) await warn(`${counted(passed)} rows were evicted before they were read`);
      if (performance.now() - toldMs > noticeMs) await tell();
    },
    tell,
  };
}

function rangeIn(query: URLSearchParams): URLSearchParams {
  const range = new URLSearchParams();
  for (const name of ["since", "from"]) {
    const value = query.get(name);
    if (value !== null) range.set(name, value);
  }
  return range;
}

type Line = z.output<typeof lineSchema>;

function parseLine(text: string): Line | undefined {
  if (text === "") return undefined;
  const { data } = lineSchema.safeParse(JSON.parse(text));
  return data; // A newer server may send lines that this client does not know.
}

type State = {
  readonly follow: Follow;
  readonly query: URLSearchParams;
  readonly losses: ReturnType<typeof createLosses>;
  left: number;
};

function moveOn(query: URLSearchParams, cursor: string): void {
  query.set("cursor", cursor);
  for (const name of ["since", "from"]) query.delete(name); // They said where to begin.
}

async function cutOff({ follow, query }: State, { reason, rowsUnsent }: Cut): Promise<void> {
  if (reason !== "replaced")
    return await follow.warn(
      `reading was too slow, ${counted(rowsUnsent)} rows behind; it goes on from there`,
    );
  query.delete("cursor");
  await follow.warn("the store was replaced; it goes on with new rows");
}

/** Reads one stream to its end. */
async function readStream(state: State, stop: AbortSignal): Promise<void> {
  const { follow, query, losses } = state;
  for await (const lines of follow.client.lines("flows/stream", query, stop)) {
    const flows: Flow[] = [];
    for (const line of lines.map(parseLine)) {
      if (line === undefined) continue;
      if ("cut" in line) await cutOff(state, line.cut);
      else {
        const { cursor, ...rest } = line;
        moveOn(query, cursor);
        if ("seq" in rest) flows.push(rest);
        else if ("lost" in rest) await losses.noticed(rest.lost, rest.passed);
      }
    }
    await follow.printer.page(flows.slice(0, state.left));
    state.left -= flows.length;
    if (state.left <= 0) return;
  }
}

/** Whether the next try may do better. */
async function goesOn(error: unknown, { follow, query }: State): Promise<boolean> {
  if (mayPass(error)) return true;
  if (!(error instanceof Refused) || error.status !== 400 || error.parameter !== "cursor") return false;
  query.delete("cursor");
  await follow.warn("the store was replaced; it goes on with new rows");
  return true;
}

/** A first connection that fails is a mistake; a later one comes back when the appliance does. */
async function readStreams(state: State, stop: AbortSignal): Promise<void> {
  const { follow, query, losses } = state;
  let connected = false;
  let failing = false;
  while (state.left > 0) {
    try {
      await losses.connected(query);
      if (failing) await follow.warn("it answers again");
      await losses.tell();
      [connected, failing] = [true, false];
      await readStream(state, stop);
    } catch (error) {
      if (stop.aborted || !connected || !(await goesOn(error, state))) throw error;
      if (!failing) await follow.warn(`${errorText(error)}; trying again`);
      failing = true;
    }
    if (state.left > 0) await wait(againMs, undefined, { signal: stop });
  }
}

export async function followFlows(follow: Follow): Promise<void> {
  const { query, limit, out } = follow;
  if (!query.has("since") && !query.has("from")) query.set("since", sinceDefault);
  const gone = out.gone?.();
  const stop = gone === undefined ? follow.stop : AbortSignal.any([follow.stop, gone]);
  const state: State = { follow, query, losses: createLosses(follow), left: limit };
  try {
    await readStreams(state, stop);
  } catch (error) {
    if (!stop.aborted) throw error; // Being stopped is how it ends.
  }
  await state.losses.tell();
}
