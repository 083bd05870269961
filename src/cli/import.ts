// fovea import: takes rows that another fovea exported into the history of this one.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Command } from "commander";
import type { RowReader } from "../export/format.ts";
import type { Sidecar } from "../export/manifest.ts";
import { formatIn, openExport, sidecarFor } from "../export/open.ts";
import { digestOf } from "../export/part-file.ts";
import { errorText } from "../log.ts";
import { loadAddon } from "./addon.ts";
import { readConfig } from "./config.ts";
import { flag } from "./flags.ts";
import { type Added, type ImportTarget, openServerTarget, openStoreTarget } from "./import-target.ts";
import { counted } from "./missing.ts";
import { addServerFlags, clientOf, type ServerOptions } from "./server.ts";
import { UsageError, type World } from "./world.ts";

type Options = ServerOptions & { dataDir?: string; node?: string; again?: boolean };

/** A file that was looked at from its beginning to its end: every record in it can be imported. */
type Checked = {
  readonly reader: RowReader;
  readonly sha256: string;
  readonly node: string;
  readonly rows: number;
};

/** What is thrown is about the file. */
async function about<Result>(
  file: string,
  stop: AbortSignal,
  work: () => Result | Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    stop.throwIfAborted();
    throw error instanceof UsageError ? error : new Error(`${file}: ${errorText(error)}`);
  }
}

async function countRows(reader: RowReader, stop: AbortSignal): Promise<number> {
  let rows = 0;
  for (const batch of reader.batches()) {
    rows += batch.length;
    await nextTurn(); // Signals come in between.
    stop.throwIfAborted();
  }
  return rows;
}

function checkDigest(sidecar: Sidecar | undefined, sha256: string): void {
  if (sidecar !== undefined && sidecar.sha256 !== sha256)
    throw new Error(
      `its SHA-256 is ${sha256}, its manifest says ${sidecar.sha256}: it was changed or damaged on its way`,
    );
}

function nodeOf(given: string | undefined, sidecar: Sidecar | undefined, reader: RowReader): string {
  const node = given ?? sidecar?.node ?? reader.head?.node;
  if (node === undefined)
    throw new UsageError(
      "--node is missing: a CSV file without its manifest does not tell which node it is of",
    );
  return node;
}

/** Nothing is imported of a file that is not right as a whole. */
async function check(world: World, file: string, options: Options, undo: DisposableStack): Promise<Checked> {
  const { stop } = world;
  const sidecar = sidecarFor(file);
  const { sha256 } = await digestOf(file, stop);
  checkDigest(sidecar, sha256);
  const reader = undo.use(await openFile(world, file, options));
  const node = nodeOf(options.node, sidecar, reader);
  const rows = await countRows(reader, stop);
  if (sidecar !== undefined && sidecar.rows !== rows)
    throw new Error(`it holds ${rows} rows, its manifest says ${sidecar.rows}`);
  if (sidecar === undefined)
    await world.err.write(`fovea: ${file} has no manifest beside it: whether it was changed is not known\n`);
  return { reader, sha256, node, rows };
}

async function openFile(world: World, path: string, options: Options): Promise<RowReader> {
  const format = formatIn(path);
  const nativeBinding = format === "sqlite" ? await addonFor(world, options) : undefined;
  return openExport({ path, format, nativeBinding });
}

const addonFor = (world: World, { dataDir, config }: Options): Promise<string | undefined> =>
  loadAddon(world, dataDir ?? readConfig(world, config).dataDir);

async function openTarget(world: World, options: Options): Promise<ImportTarget> {
  const { dataDir } = options;
  if (dataDir === undefined) return openServerTarget(clientOf(world, options));
  const config = readConfig(world, options.config);
  const configNamed = options.config !== undefined;
  return openStoreTarget({ dataDir, config, configNamed, nativeBinding: await addonFor(world, options) });
}

/** How many rows of the file are there from an import that was broken off; throws when all of them are. */
function rowsThere(had: number, { rows }: Checked, again: boolean): number {
  const there = rows === 0 ? 0 : had % rows;
  if (had > 0 && there === 0 && !again)
    throw new Error(
      "was imported before; --again imports it a second time, also where its rows have gone since",
    );
  return there;
}

const together = (some: Added, more: Added): Added => ({
  kept: some.kept + more.kept,
  evicted: some.evicted + more.evicted,
  ...(more.expired === undefined ? {} : { expired: (some.expired ?? 0) + more.expired }),
});

type Progress = { done: number };

async function copyRows(
  { reader, sha256, node }: Checked,
  target: ImportTarget,
  { had, there, progress, stop }: Copying,
): Promise<Added> {
  let total: Added = { kept: 0, evicted: 0 };
  let skip = there;
  let before = had;
  for (const batch of reader.batches()) {
    const rows = batch.slice(skip).map((row) => ({ ...row, node: row.node ?? node }));
    skip = Math.max(0, skip - batch.length);
    if (rows.length === 0) continue;
    total = together(total, await target.add({ sha256, node, before, rows }, stop));
    before += rows.length;
    progress.done += rows.length;
    await nextTurn();
    stop.throwIfAborted();
  }
  return total;
}

type Copying = {
  readonly had: number;
  readonly there: number;
  readonly progress: Progress;
  readonly stop: AbortSignal;
};

const rowsText = (count: number): string => `${counted(count)} ${count === 1 ? "row" : "rows"}`;

/** What went meanwhile, and for what. A running appliance does not tell these apart. */
function goneText({ evicted, expired }: Added): string {
  if (evicted === 0) return "";
  if (expired === undefined)
    return `; ${rowsText(evicted)} that were older went, to make room or for store.ageMax`;
  const room = evicted - expired;
  return [
    expired === 0 ? "" : `; ${rowsText(expired)} went that were older than store.ageMax`,
    room === 0 ? "" : `; ${rowsText(room)} that were older made room`,
  ].join("");
}

async function importFile(world: World, file: string, options: Options, verb: Command): Promise<void> {
  const { stop, err } = world;
  if (options.dataDir !== undefined && verb.getOptionValueSource("server") === "cli")
    throw new UsageError("--data-dir and --server name two stores: leave one out");
  using undo = new DisposableStack();
  const checked = await about(file, stop, () => check(world, file, options, undo));
  const target = undo.use(await openTarget(world, options));
  const had = await target.had(checked.sha256, stop);
  const there = await about(file, stop, () => rowsThere(had, checked, options.again ?? false));
  const progress = { done: there };
  try {
    const added = await copyRows(checked, target, { had, there, progress, stop });
    const before = there === 0 ? "" : `, after ${rowsText(there)} that were there already`;
    const text = `${rowsText(added.kept)} of node ${checked.node} imported from ${file}${before}`;
    await err.write(`fovea: ${text}${goneText(added)}\n`);
  } catch (error) {
    // Of the part that failed some may be there too; the store knows.
    if (progress.done > 0)
      await err.write(
        `fovea: at least ${counted(progress.done)} of ${rowsText(checked.rows)} are there; ` +
          "the same command goes on after those that are\n",
      );
    throw error;
  }
}

export function addImport(program: Command, world: World): void {
  const verb = program
    .command("import <file>")
    .description("take the rows of an exported file into the history of an appliance")
    .addOption(
      flag(
        "--data-dir <dir>",
        "into the store in this directory, of an appliance that is stopped; bounded by --config, or else not by age",
        "FOVEA_IMPORT_DATA_DIR",
      ),
    )
    .addOption(flag("--node <name>", "the node that the rows are of; as the file says", "FOVEA_IMPORT_NODE"))
    .addOption(flag("--again", "also a file that was imported before", "FOVEA_IMPORT_AGAIN"));
  addServerFlags(verb).action((file: string, options: Options) => importFile(world, file, options, verb));
}
