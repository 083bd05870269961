// Opens an export for reading, whatever its format and its name.

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { errorCode } from "../store/failure.ts";
import { isCsv, openCsv } from "./csv.ts";
import type { ExportFormat, RowReader } from "./format.ts";
import { isJson, openJson } from "./json.ts";
import { readSidecar, type Sidecar, sidecarOf } from "./manifest.ts";
import { isSqlite, openSqlite } from "./sqlite.ts";

function startOf(path: string): string {
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(4096);
    return bytes.toString("latin1", 0, readSync(file, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(file);
  }
}

/** By what is in it. Throws for what is no export. */
export function formatIn(path: string): ExportFormat {
  const start = startOf(path);
  if (isSqlite(start)) return "sqlite";
  if (isJson(start)) return "json";
  if (isCsv(start)) return "csv";
  throw new Error("is no file that fovea export writes");
}

export type Opening = {
  readonly path: string;
  readonly format: ExportFormat;
  readonly nativeBinding: string | undefined;
};

export function openExport({ path, format, nativeBinding }: Opening): RowReader {
  switch (format) {
    case "sqlite":
      return openSqlite({ path, nativeBinding });
    case "json":
      return openJson(path);
    case "csv":
      return openCsv(path);
    default:
      return format satisfies never;
  }
}

/** Undefined where there is none. */
export function sidecarFor(path: string): Sidecar | undefined {
  let text: string;
  try {
    text = readFileSync(sidecarOf(path), "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("has a manifest beside it that is no JSON");
  }
  return readSidecar(value);
}
