// fovea flows: asks the running appliance for flows, and may go on asking.

import type { Command } from "commander";
import { z } from "zod";
import { flowsMax, orders } from "../api/query.ts";
import { type Client, knownFlow } from "./client.ts";
import { flag, oneOf, outputFlag } from "./flags.ts";
import { addFilters, flowFilters, queryOf, queryVariable, rangeFilters } from "./flow-flags.ts";
import { flowPrinter, type Printer } from "./flow-printer.ts";
import { followFlows } from "./follow.ts";
import { counted, missingOf } from "./missing.ts";
import { addServerFlags, clientOf, type ServerOptions } from "./server.ts";
import { UsageError, type World } from "./world.ts";

type Options = ServerOptions & {
  output: string;
  follow?: boolean;
  limit?: number;
  order?: string;
} & Record<string, unknown>;

// What fits into memory as a table; machines read by pages.
const limitMax = 1_000_000;
const limitDefault = 100;

function limitOf(text: string): number {
  const limit = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > limitMax)
    throw new UsageError(`--limit "${text}" is no whole number from 1 to ${limitMax}`);
  return limit;
}

const missingSchema = z.object({ lost: z.record(z.string(), z.number()), lostSince: z.number().optional() });

const pageSchema = z.object({
  ...missingSchema.shape,
  flows: z.array(knownFlow),
  cursor: z.string().nullable(),
  /** More rows wait behind the cursor now; without it, only such as are still to come. */
  more: z.boolean(),
  passed: z.number(),
});

type Missing = z.output<typeof missingSchema>;
type Asked = { readonly client: Client; readonly query: URLSearchParams; readonly stop: AbortSignal };

/** Prints `limit` flows at the most; what is missing of the time asked for, or of that from the oldest flow on. */
async function printPages({ client, query, stop }: Asked, printer: Printer, limit: number): Promise<Missing> {
  let left = limit;
  let passed = 0;
  let oldestAt = Number.POSITIVE_INFINITY;
  let page: z.output<typeof pageSchema>;
  do {
    query.set("limit", String(Math.min(left, flowsMax)));
    page = await client.get("flows", pageSchema, query, stop);
    await printer.page(page.flows);
    left -= page.flows.length;
    passed += page.passed;
    for (const { endAt } of page.flows) oldestAt = Math.min(oldestAt, endAt);
    if (page.cursor !== null) query.set("cursor", page.cursor);
  } while (left > 0 && page.more);
  const timeless = !rangeFilters.some(([, name]) => query.has(name));
  const missing = timeless && Number.isFinite(oldestAt) ? await missingFrom(client, oldestAt, stop) : page;
  const { lost, lostSince } = missing;
  await printer.end({ cursor: page.cursor, lost, ...(lostSince === undefined ? {} : { lostSince }), passed });
  return missing;
}

/** Without a time that was asked for, all that retention ever took would be missing. */
async function missingFrom(client: Client, fromAt: number, stop: AbortSignal): Promise<Missing> {
  const schema = z.object({ range: missingSchema });
  const query = new URLSearchParams({ from: String(fromAt), limit: "1" });
  return (await client.get("ledger", schema, query, stop)).range;
}

function checkFollow(options: Options): void {
  const { order } = options;
  if (order === "newest") throw new UsageError("--follow shows the oldest first: leave --order out");
  if (options["to"] !== undefined) throw new UsageError("--follow goes on for ever: leave --to out");
}

async function flows(world: World, options: Options): Promise<void> {
  const { output, order } = options;
  const lines = options.follow === true;
  if (lines) checkFollow(options);
  const client = clientOf(world, options);
  const query = queryOf(options, [...rangeFilters, ...flowFilters]);
  const printer = flowPrinter(world.out, output, { lines });
  const warn = (text: string) => world.err.write(`fovea: ${text}\n`);
  if (lines) {
    const limit = options.limit ?? Number.POSITIVE_INFINITY;
    return await followFlows({ client, query, printer, warn, limit, out: world.out, stop: world.stop });
  }
  if (order !== undefined) query.set("order", order);
  const missing = await printPages(
    { client, query, stop: world.stop },
    printer,
    options.limit ?? limitDefault,
  );
  for (const text of missingOf(missing)) await warn(text);
}

export function addFlows(program: Command, world: World): void {
  const verb = program.command("flows").description("show flows that the running appliance has kept");
  addFilters(verb, [...rangeFilters, ...flowFilters]);
  verb
    .addOption(
      flag(
        "-n, --limit <count>",
        `how many; ${counted(limitDefault)} without --follow`,
        queryVariable("limit"),
        limitOf,
      ),
    )
    .addOption(
      flag("--order <order>", `which first: ${orders.join(" or ")}`, queryVariable("order"), oneOf(orders)),
    )
    .addOption(
      flag("-f, --follow", "go on with new flows as they come, oldest first", queryVariable("follow")),
    )
    .addOption(outputFlag("table, json (with --follow one flow a line) or csv", ["table", "json", "csv"]));
  addServerFlags(verb).action((options: Options) => flows(world, options));
}
