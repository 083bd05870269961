// fovea top: who sends and gets most, as a live table, or once for a machine.

import { setTimeout as wait } from "node:timers/promises";
import { type Command, InvalidArgumentError } from "commander";
import { z } from "zod";
import { directions, verdicts } from "../api/query.ts";
import { topSchema } from "../api/schemas.ts";
import { parseDuration } from "../config-units.ts";
import { errorText } from "../log.ts";
import { topKeys, topLimitMax, topOrders } from "../store/top-groups.ts";
import { type Client, mayPass } from "./client.ts";
import { csvLine } from "./csv.ts";
import { flag, oneOf, outputFlag, several } from "./flags.ts";
import { queryVariable } from "./flow-flags.ts";
import type { Keyboard } from "./keyboard.ts";
import { type Output, printJson, printLines } from "./output.ts";
import type { Tty } from "./screen.ts";
import { addServerFlags, clientOf, type ServerOptions } from "./server.ts";
import { orderKeys, ranksOf, type Top, topLines, topScreen, topTitle, views } from "./top-view.ts";
import type { World } from "./world.ts";

type Options = ServerOptions & {
  output: string;
  by: string;
  order: string;
  interval: number;
  once?: boolean;
  rows?: number;
} & Record<string, unknown>;

const filters = ["since", "from", "to", "address", "port", "protocol", "direction", "verdict"] as const;
const sinceDefault = "5m";
const rowsDefault = 20;
const intervalMsMin = 200;

function rowsOf(text: string): number {
  const rows = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (rows < 1 || rows > topLimitMax)
    throw new InvalidArgumentError(`It is a whole number from 1 to ${topLimitMax}.`);
  return rows;
}

function intervalOf(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms < intervalMsMin)
    throw new InvalidArgumentError(`It is a duration of ${intervalMsMin}ms or more, such as 2s.`);
  return ms;
}

function queryOf(options: Options): URLSearchParams {
  const query = new URLSearchParams({ by: options.by, order: options.order });
  for (const name of filters) {
    const value = options[name];
    if (value !== undefined) for (const one of [value].flat()) query.append(name, String(one));
  }
  const timed = ["since", "from", "to"].some((name) => query.has(name));
  if (!timed) query.set("since", sinceDefault);
  return query;
}

const csvOf = ({ by, ranks, other }: Top): string =>
  csvLine([by, "records", "packets", "bytes"]) +
  [...ranks, { ...other, key: "(other)" }]
    .map(({ key, records, packets, bytes }) => csvLine([key, records, packets, bytes]))
    .join("");

async function print(out: Output, format: string, top: Top, startedAt: number): Promise<void> {
  if (format === "json") return await printJson(out, top);
  if (format === "csv") return await out.write(csvOf(top));
  const moment = { now: Date.now(), startedAt };
  await printLines(out, [topTitle(top, moment), "", ...topLines(top, moment, out)]);
}

type Live = {
  readonly client: Client;
  readonly query: URLSearchParams;
  readonly intervalMs: number;
  /** Absent: as many as the screen takes. */
  readonly rows: number | undefined;
  readonly out: Output;
  readonly tty: Tty;
  readonly keyboard: Keyboard | undefined;
  readonly stop: AbortSignal;
};

/** What went on has no drop reason: beside it, those would be nothing. */
function ask(client: Client, query: URLSearchParams, stop: AbortSignal): Promise<Top> {
  const asked = new URLSearchParams(query);
  if (asked.get("by") === "reason" && !asked.has("verdict")) asked.set("verdict", "dropped");
  return client.get("top", topSchema, asked, stop);
}

const startedSchema = z.object({ startedAt: z.number() });
const startOf = async (client: Client, stop: AbortSignal): Promise<number> =>
  (await client.get("status", startedSchema, new URLSearchParams(), stop)).startedAt;

/** What the user wants next. */
function createWishes(query: URLSearchParams) {
  const quit = new AbortController();
  let hurry = new AbortController();
  return {
    quit: quit.signal,
    /** Ends the wait that goes on. */
    hurried: () => hurry.signal,
    calm: () => {
      hurry = new AbortController();
    },
    hurry: () => hurry.abort(),
    pressed: (key: string) => {
      if (key === "q" || key === "\u0003") quit.abort();
      const by = views.find(([name]) => name === key)?.[1];
      const order = orderKeys.find(([name]) => name === key)?.[1];
      if (by !== undefined) query.set("by", by);
      if (order !== undefined) query.set("order", order);
      if (by !== undefined || order !== undefined) hurry.abort();
    },
  };
}

const rowsThatFit = ({ rows, tty }: Live): number =>
  Math.min(topLimitMax, rows ?? topLimitMax, ranksOf(tty.size()));

async function show(live: Live): Promise<void> {
  const { client, query, tty, out, keyboard } = live;
  const wishes = createWishes(query);
  query.set("limit", String(rowsThatFit(live)));
  let top = await ask(client, query, live.stop); // Before the screen is taken: what is wrong is told as by any verb.
  let moment = { now: Date.now(), startedAt: await startOf(client, live.stop) };
  const stop = AbortSignal.any([live.stop, wishes.quit]);
  using screen = tty.open();
  using _keys = keyboard?.listen(wishes.pressed);
  using _size = tty.resized(wishes.hurry);
  for (let problem: string | undefined; !stop.aborted; ) {
    const { columns } = tty.size();
    screen.draw(topScreen(top, moment, { columns, colours: out.colours }, problem));
    await rest(live.intervalMs, AbortSignal.any([stop, wishes.hurried()]));
    wishes.calm();
    if (stop.aborted) return;
    query.set("limit", String(rowsThatFit(live)));
    try {
      top = await ask(client, query, stop);
      moment = { ...moment, now: Date.now() };
      problem = undefined;
    } catch (error) {
      if (stop.aborted) return;
      if (!mayPass(error)) throw error;
      problem = `${errorText(error)}; trying again`; // What was there last stays.
    }
  }
}

async function rest(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await wait(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error; // A key ends it early.
  }
}

async function top(world: World, options: Options): Promise<void> {
  const { output, once = false, interval, rows } = options;
  const { out, keyboard, stop } = world;
  const client = clientOf(world, options);
  const query = queryOf(options);
  const { tty } = out;
  if (tty !== undefined && output === "table" && !once)
    return await show({ client, query, intervalMs: interval, rows, out, tty, keyboard, stop });
  query.set("limit", String(rows ?? rowsDefault));
  await print(out, output, await ask(client, query, stop), await startOf(client, stop));
}

export function addTop(program: Command, world: World): void {
  const verb = program
    .command("top")
    .description("show who sends and gets most, from exact totals: a live table on a terminal")
    .addOption(
      flag("--by <key>", `what to add up by: ${topKeys.join(", ")}`, "FOVEA_TOP_BY", oneOf(topKeys)).default(
        "address",
      ),
    )
    .addOption(
      flag(
        "--order <order>",
        `what is most: ${topOrders.join(", ")}`,
        "FOVEA_TOP_ORDER",
        oneOf(topOrders),
      ).default("bytes"),
    )
    .addOption(flag("--since <duration>", `how far back; ${sinceDefault}`, queryVariable("since")))
    .addOption(flag("--from <time>", "from this time on: RFC 3339 or -10m", queryVariable("from")))
    .addOption(flag("--to <time>", "before this time", queryVariable("to")))
    .addOption(flag("--address <address>", "only of this address or CIDR", queryVariable("address"), several))
    .addOption(flag("--port <port>", "only to this port", queryVariable("port")))
    .addOption(flag("--protocol <protocol>", "name such as tcp, or number", queryVariable("protocol")))
    .addOption(flag("--direction <direction>", directions.join(" or "), queryVariable("direction")))
    .addOption(flag("--verdict <verdict>", verdicts.join(" or "), queryVariable("verdict")))
    .addOption(flag("-n, --rows <count>", "how many; what the screen takes", "FOVEA_TOP_ROWS", rowsOf))
    .addOption(
      flag("--interval <duration>", "how often the table is new", "FOVEA_TOP_INTERVAL", intervalOf).default(
        2000,
        "2s",
      ),
    )
    .addOption(flag("--once", "print once, also on a terminal", "FOVEA_TOP_ONCE"))
    .addOption(outputFlag("table, json or csv; the last two once", ["table", "json", "csv"]));
  addServerFlags(verb).action((options: Options) => top(world, options));
}
