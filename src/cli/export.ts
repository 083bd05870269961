// fovea export: writes flows of a time and a filter to a file that another fovea, or anyone, can read.

import { randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Command } from "commander";
import { z } from "zod";
import { type ExportedFlow, type ExportFormat, exportFormats } from "../export/format.ts";
import { exportFormat, type Head, type Totals } from "../export/manifest.ts";
import { errorText } from "../log.ts";
import { isOpenToAll } from "../private-file.ts";
import { createRedactor } from "../redact.ts";
import { rowsVersion } from "../store/schema.ts";
import { decodeText } from "../text-file.ts";
import { loadAddon } from "./addon.ts";
import { readConfig } from "./config.ts";
import { type ExportQuery, exportQueryOf } from "./export-query.ts";
import { type Missing, openFileSource, openServerSource, type Source } from "./export-source.ts";
import { formatOf, openTarget, stdoutName, type Target, type Written } from "./export-target.ts";
import { flag, oneOf } from "./flags.ts";
import { addFilters, flowFilters, rangeFilters } from "./flow-flags.ts";
import { timeText } from "./flow-rows.ts";
import { counted, missingOf } from "./missing.ts";
import { addServerFlags, clientOf, type ServerOptions } from "./server.ts";
import { UsageError, type World } from "./world.ts";

type Options = ServerOptions & {
  file?: string;
  format?: string;
  redact?: boolean;
  redactKey?: string;
  force?: boolean;
  dataDir?: string;
  node?: string;
} & Record<string, unknown>;

/** Whoever has the key can tell an address that he suspects. */
function keyOf(file: string | undefined): Uint8Array {
  if (file === undefined) return randomBytes(32);
  try {
    if (isOpenToAll(statSync(file).mode))
      throw new Error(`is open to every user of this machine; run: chmod o-rwx ${file}`);
    return Buffer.from(decodeText(readFileSync(file)).trim());
  } catch (error) {
    throw new Error(`--redact-key ${file} cannot be used: ${errorText(error)}`);
  }
}

type Redact = (flow: ExportedFlow) => ExportedFlow;

/** Undefined where addresses stay what they are. */
function redactOf({ redact = false, redactKey }: Options): Redact | undefined {
  if (!redact && redactKey === undefined) return undefined;
  const redactor = createRedactor({ key: keyOf(redactKey) });
  return (flow) => redactor.record(flow);
}

const addressFilters = new Set(["address", "source", "destination"]);

/** The filters by their names in the API; of a redacted file none that would tell an address. */
function filtersOf({ parameters }: ExportQuery, redacted: boolean): Head["filters"] {
  const names = [...new Set(parameters.keys())];
  return Object.fromEntries(
    names.map((name) => [
      name,
      redacted && addressFilters.has(name) ? ["(redacted)"] : parameters.getAll(name),
    ]),
  );
}

type Origin = { readonly node: string; readonly cluster: string };
type Opened = { readonly source: Source; readonly origin: Origin };

const statusSchema = z.object({ node: z.string(), cluster: z.string() });

async function openSource(
  world: World,
  options: Options,
  { query, nativeBinding }: { readonly query: ExportQuery; readonly nativeBinding: string | undefined },
): Promise<Opened> {
  const { dataDir, node } = options;
  if (dataDir === undefined) {
    const client = clientOf(world, options);
    const origin = await client.get("status", statusSchema, new URLSearchParams(), world.stop);
    return { source: openServerSource(client, query), origin };
  }
  const config = readConfig(world, options.config);
  const origin = { node: node ?? config.node, cluster: config.cluster };
  return { source: openFileSource({ dataDir, nativeBinding, query }), origin };
}

/** Exact: what went before the first page, and what went before it could be read. */
function missingSince(before: Missing, after: Missing, passed: number): Missing {
  const { "rows.evicted": _, ...others } = after.lost;
  const evicted = (before.lost["rows.evicted"] ?? 0) + passed;
  return { ...after, lost: { ...others, ...(evicted === 0 ? {} : { "rows.evicted": evicted }) } };
}

async function copyRows(
  source: Source,
  target: Target,
  { redact, stop }: { readonly redact: Redact | undefined; readonly stop: AbortSignal },
): Promise<Totals> {
  const before = await source.missing(stop);
  let [rows, passed] = [0, 0];
  let cursor: string | undefined;
  for (;;) {
    const page = await source.page(cursor, stop);
    await target.writer.rows(redact === undefined ? page.flows : page.flows.map(redact));
    rows += page.flows.length;
    passed += page.passed;
    if (!page.more) break;
    cursor = page.cursor;
    await nextTurn(); // A file is read and written without waiting: signals come in between.
    stop.throwIfAborted();
  }
  const totals = { rows, ...missingSince(before, await source.missing(stop), passed) };
  await target.writer.end(totals);
  return totals;
}

function missingText(totals: Totals): string {
  const { lostSince } = totals;
  const [text] = missingOf(totals);
  if (text !== undefined) return text;
  return lostSince === undefined
    ? "nothing of this time is missing"
    : `nothing is missing since ${timeText(lostSince)}, before that nothing is known`;
}

function summary(file: string, totals: Totals, written: Written | undefined): string {
  const place = file === stdoutName ? "stdout" : file;
  const digest = written === undefined ? "" : `, ${counted(written.bytes)} bytes, SHA-256 ${written.sha256}`;
  return `fovea: ${counted(totals.rows)} ${totals.rows === 1 ? "row" : "rows"} in ${place}${digest}; ${missingText(totals)}\n`;
}

function checkOptions({ file, dataDir, node }: Options, verb: Command): string {
  if (file === undefined) throw new UsageError("--file is missing: say where to write, or - for stdout");
  if (dataDir !== undefined && verb.getOptionValueSource("server") === "cli")
    throw new UsageError("--data-dir and --server name two sources: leave one out");
  if (dataDir === undefined && node !== undefined)
    throw new UsageError("--node goes with --data-dir: an appliance says itself which node it is");
  return file;
}

/** The addon, for a source or a format that is a SQLite file. */
async function addonFor(
  world: World,
  { dataDir, config }: Options,
  format: ExportFormat,
): Promise<string | undefined> {
  if (dataDir !== undefined) return await loadAddon(world, dataDir);
  return format === "sqlite" ? await loadAddon(world, readConfig(world, config).dataDir) : undefined;
}

async function exportFlows(world: World, options: Options, verb: Command): Promise<void> {
  const file = checkOptions(options, verb);
  const { force = false } = options;
  const exportedAt = Date.now();
  const format = formatOf(file, options.format);
  const query = exportQueryOf(options, exportedAt);
  const redact = redactOf(options);
  const nativeBinding = await addonFor(world, options, format);
  using undo = new DisposableStack();
  const { source, origin } = await openSource(world, options, { query, nativeBinding });
  undo.use(source);
  const head: Head = {
    format: exportFormat,
    schema: rowsVersion,
    version: world.build.version,
    ...origin,
    exportedAt,
    ...(query.from === undefined ? {} : { from: query.from }),
    ...(query.to === undefined ? {} : { to: query.to }),
    filters: filtersOf(query, redact !== undefined),
    redacted: redact !== undefined,
  };
  const target = undo.use(openTarget(world, { file, format, force, head, nativeBinding }));
  const totals = await copyRows(source, target, { redact, stop: world.stop });
  const written = await target.publish(totals);
  await world.err.write(summary(file, totals, written));
}

export function addExport(program: Command, world: World): void {
  const verb = program
    .command("export")
    .description("write flows to a file, with what is missing of them")
    .addOption(flag("--file <file>", "where to; - is stdout", "FOVEA_EXPORT_FILE"))
    .addOption(
      flag(
        "--format <format>",
        `${exportFormats.join(", ")}; without it as the file ends: .json, .csv, .db`,
        "FOVEA_EXPORT_FORMAT",
        oneOf(exportFormats),
      ),
    );
  addFilters(verb, [...rangeFilters, ...flowFilters]);
  verb
    .addOption(flag("--redact", "put pseudonyms in the place of addresses", "FOVEA_EXPORT_REDACT"))
    .addOption(
      flag(
        "--redact-key <file>",
        "redact with this secret, to get the same pseudonyms each time",
        "FOVEA_EXPORT_REDACT_KEY",
      ),
    )
    .addOption(flag("--force", "write over a file that is there", "FOVEA_EXPORT_FORCE"))
    .addOption(
      flag(
        "--data-dir <dir>",
        "read the store in this directory instead of asking an appliance, which may be stopped",
        "FOVEA_EXPORT_DATA_DIR",
      ),
    )
    .addOption(
      flag(
        "--node <name>",
        "with --data-dir: the node that it is of; the configured one",
        "FOVEA_EXPORT_NODE",
      ),
    );
  addServerFlags(verb).action((options: Options) => exportFlows(world, options, verb));
}
