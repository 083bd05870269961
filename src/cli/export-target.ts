// Where an export goes: a file that has its name when it is whole, or stdout.

import { closeSync, openSync } from "node:fs";
import { extname } from "node:path";
import { csvWriter } from "../export/csv.ts";
import { type ExportFormat, exportFormats, type RowWriter } from "../export/format.ts";
import { jsonWriter } from "../export/json.ts";
import type { Head, Totals } from "../export/manifest.ts";
import { openPartFile, type PartFile, writeAll } from "../export/part-file.ts";
import { openSqliteWriter } from "../export/sqlite.ts";
import { errorText } from "../log.ts";
import { UsageError, type World } from "./world.ts";

export const stdoutName = "-";

const formatOfEnding: Readonly<Record<string, ExportFormat>> = {
  ".json": "json",
  ".csv": "csv",
  ".db": "sqlite",
  ".sqlite": "sqlite",
};

/** Throws UsageError where neither the name nor the flag tells. */
export function formatOf(file: string, given: string | undefined): ExportFormat {
  const format = exportFormats.find((name) => name === given) ?? formatOfEnding[extname(file).toLowerCase()];
  if (format === undefined)
    throw new UsageError(
      `--file ${file} has no ending that tells the format: say --format json, csv or sqlite`,
    );
  if (format === "sqlite" && file === stdoutName)
    throw new UsageError("--format sqlite cannot go to stdout: name a file");
  return format;
}

/** What became of it; nothing of stdout. */
export type Written = { readonly bytes: number; readonly sha256: string };

export type Target = Disposable & {
  readonly writer: RowWriter;
  /** After the end of the writer. */
  publish(totals: Totals): Promise<Written | undefined>;
};

type Options = {
  readonly file: string;
  readonly format: ExportFormat;
  readonly force: boolean;
  readonly head: Head;
  readonly nativeBinding: string | undefined;
};

export function openTarget(world: World, options: Options): Target {
  return options.file === stdoutName ? stdoutTarget(world, options) : fileTarget(world, options);
}

function stdoutTarget({ out }: World, { format, head }: Options): Target {
  const put = (text: string) => out.write(text);
  return {
    writer: format === "csv" ? csvWriter(put) : jsonWriter(head, put),
    publish: () => Promise.resolve(undefined),
    [Symbol.dispose]: () => undefined,
  };
}

function fileTarget({ stop }: World, options: Options): Target {
  const { file, force, head } = options;
  using undo = new DisposableStack();
  const part = undo.use(openPartFile({ file, force }));
  const { writer, close } = openWriter(part, options, undo);
  const told = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    try {
      return await work();
    } catch (error) {
      stop.throwIfAborted();
      throw new Error(`${file} could not be written, and nothing of it is left: ${errorText(error)}`);
    }
  };
  const opened = undo.move();
  return {
    writer: {
      rows: (flows) => told(() => writer.rows(flows)),
      end: (totals) => told(() => writer.end(totals)),
    },
    publish: (totals) => {
      close();
      const sidecar = (sha256: string) => `${JSON.stringify({ ...head, ...totals, sha256 }, null, 2)}\n`;
      return told(() => part.publish({ sidecar, signal: stop }));
    },
    [Symbol.dispose]: () => opened.dispose(),
  };
}

function openWriter(
  { path }: PartFile,
  { format, head, nativeBinding }: Options,
  undo: DisposableStack,
): { readonly writer: RowWriter; readonly close: () => void } {
  if (format === "sqlite") {
    const writer = undo.use(openSqliteWriter({ path, head, nativeBinding }));
    return { writer, close: () => writer[Symbol.dispose]() };
  }
  const text = new DisposableStack();
  const file = undo.use(text).adopt(openSync(path, "r+"), closeSync);
  const put = (written: string): Promise<void> => {
    writeAll(file, written);
    return Promise.resolve();
  };
  const writer = format === "csv" ? csvWriter(put) : jsonWriter(head, put);
  return { writer, close: () => text.dispose() };
}
