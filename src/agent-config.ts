// The configuration map of Container Insights, mounted as a directory: what it says about flow logs.

import { join } from "node:path";
import { parse, TomlError } from "smol-toml";
import type { ConfigProblem } from "./config.ts";
import { errorText } from "./log.ts";
import { readTextIfThere } from "./text-file.ts";
import {
  type Rejection,
  readFlag,
  shownValue,
  type ThrottleKey,
  throttleKeys,
  type WrittenValue,
} from "./throttle-settings.ts";

export type AgentConfig = {
  readonly dir: string;
  /** Whether there is anything of a configuration map in the directory. */
  readonly found: boolean;
  readonly schemaVersion?: string;
  /** Free text of the customer, who tells by it which version is in force. */
  readonly configVersion?: string;
  readonly internalMetrics: boolean;
  written(key: ThrottleKey): readonly WrittenValue[];
  /** Values that are not in force as written. Those of the throttle are judged with the other sources. */
  readonly rejected: readonly Rejection[];
  /** Why nothing of it is in force. */
  readonly problem?: ConfigProblem;
};

type Table = { readonly [key: string]: unknown };

const rootTable = ["agent_settings"];
const throttleTable = [...rootTable, "networkflow_logs_config"];
const metricsTable = [...rootTable, "fbit_config"];
const metricsKey = "enable_internal_metrics";
/** Keys of the throttle's table that are no keys of it, told one by one. */
const unknownMax = 16;

const fileNames = { schema: "schema-version", version: "config-version", settings: "agent-settings" };

export const agentConfigFiles = (dir: string): readonly string[] =>
  Object.values(fileNames).map((name) => join(dir, name));

const isTable = (value: unknown): value is Table =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);

const keysIn = (text: string): readonly string[] =>
  (text.match(/"[^"]*"|'[^']*'|[\w-]+/g) ?? []).map((key) => key.replace(/^["']|["']$/g, ""));

/** The path that a line of TOML sets or opens, and the table that the lines after it belong to. */
function readLine(line: string, table: readonly string[]) {
  const header = /^\s*\[{1,2}([^\]]*)\]/.exec(line);
  if (header !== null) return { path: keysIn(header[1] ?? ""), table: keysIn(header[1] ?? "") };
  const at = line.indexOf("=");
  if (at < 0 || /^\s*#/.test(line)) return { path: [], table };
  return { path: [...table, ...keysIn(line.slice(0, at))], table };
}

type PlaceOf = (path: readonly string[]) => { readonly file: string; readonly line?: number };

/** The line of a key, or of the nearest table above it: the parser does not tell. Texts over lines may fool this. */
function placesIn(file: string, text: string): PlaceOf {
  const lines = new Map<string, number>();
  const nameOf = (path: readonly string[]) => path.join("\n");
  let table: readonly string[] = [];
  for (const [at, line] of text.split("\n").entries()) {
    const read = readLine(line, table);
    table = read.table;
    const name = nameOf(read.path);
    if (!lines.has(name)) lines.set(name, at + 1);
  }
  return (path) => {
    for (let depth = path.length; depth > 0; depth--) {
      const line = lines.get(nameOf(path.slice(0, depth)));
      if (line !== undefined) return { file, line };
    }
    return { file };
  };
}

type Found = { readonly table?: Table; readonly rejected: readonly Rejection[] };

/** The table at the path, whose last key stands in `above`. What is no table is rejected: it has no effect. */
function tableIn(above: Table | undefined, path: readonly string[], placeOf: PlaceOf): Found {
  const key = path.at(-1) ?? "";
  const inner = above !== undefined && Object.hasOwn(above, key) ? above[key] : undefined;
  if (inner === undefined) return { rejected: [] };
  if (isTable(inner)) return { table: inner, rejected: [] };
  return { rejected: [{ ...placeOf(path), key, value: "", message: "is no table" }] };
}

/** Without their values: nobody knows what they are, and a secret may be among them. */
function unknownKeys(table: Table, placeOf: PlaceOf): readonly Rejection[] {
  const known: readonly string[] = throttleKeys;
  const unknown = Object.keys(table).filter((key) => !known.includes(key));
  const told = unknown.slice(0, unknownMax).map((key) => ({
    ...placeOf([...throttleTable, key]),
    key: key.slice(0, 80),
    value: "",
    message: "is no key of this table",
  }));
  const rest = unknown.length - told.length;
  const message = `has ${rest} more keys that are no keys of this table`;
  const key = throttleTable.join(".");
  return rest === 0 ? told : [...told, { ...placeOf(throttleTable), key, value: "", message }];
}

function readThrottleTable(above: Table | undefined, placeOf: PlaceOf) {
  const { table, rejected } = tableIn(above, throttleTable, placeOf);
  const written = (key: ThrottleKey): readonly WrittenValue[] =>
    table !== undefined && Object.hasOwn(table, key)
      ? [{ value: table[key], ...placeOf([...throttleTable, key]) }]
      : [];
  const unknown = table === undefined ? [] : unknownKeys(table, placeOf);
  return { written, rejected: [...rejected, ...unknown] };
}

/** The reference takes the text "true" alone; its own documents write a boolean. */
function readInternalMetrics(above: Table | undefined, placeOf: PlaceOf) {
  const { table, rejected } = tableIn(above, metricsTable, placeOf);
  if (table === undefined || !Object.hasOwn(table, metricsKey)) return { internalMetrics: false, rejected };
  const { value, problem } = readFlag(table[metricsKey]);
  if (problem === undefined) return { internalMetrics: value, rejected };
  const message = `${problem}; ${value} is in force`;
  const place = placeOf([...metricsTable, metricsKey]);
  const rejection = { ...place, key: metricsKey, value: shownValue(table[metricsKey]), message };
  return { internalMetrics: value, rejected: [rejection] };
}

const nothing = { internalMetrics: false, written: () => [], rejected: [] };

type Read = Pick<AgentConfig, "internalMetrics" | "written" | "rejected" | "problem">;

function readSettings(file: string, text: string): Read {
  let root: Table;
  try {
    // Only so can 5000 be told from 5000.0, which the reference does not take.
    root = parse(text, { integersAsBigInt: true });
  } catch (error) {
    const key = fileNames.settings;
    const line = error instanceof TomlError ? { line: error.line } : {};
    const [reason] = errorText(error).split("\n"); // The lines after it show the text itself.
    const message = `is not the TOML that is expected: ${reason}`;
    return { ...nothing, problem: { file, ...line, key, message } };
  }
  const placeOf = placesIn(file, text);
  const agent = tableIn(root, rootTable, placeOf);
  const { written, rejected } = readThrottleTable(agent.table, placeOf);
  const metrics = readInternalMetrics(agent.table, placeOf);
  return { ...metrics, written, rejected: [...agent.rejected, ...rejected, ...metrics.rejected] };
}

/** The reference takes white space out, and the first ten characters. */
const versionText = (text: string): string => text.replace(/\s/g, "").slice(0, 10);

type Texts = { readonly [name in keyof typeof fileNames]: string | undefined };

function readTexts(dir: string): Texts | ConfigProblem {
  let name = "";
  const text = (next: string) => {
    name = next;
    return readTextIfThere(join(dir, name));
  };
  try {
    const { schema, version, settings } = fileNames;
    return { schema: text(schema), version: text(version), settings: text(settings) };
  } catch (error) {
    return { file: join(dir, name), key: name, message: `cannot be read: ${errorText(error)}` };
  }
}

function readChecked(dir: string, settings: string, schemaVersion: string): Read {
  if (/^v1$/i.test(schemaVersion)) return readSettings(join(dir, fileNames.settings), settings);
  const given = schemaVersion === "" ? "is missing" : `is ${JSON.stringify(schemaVersion)}`;
  const message = `${given}, and v1 is the one that is known`;
  const file = join(dir, fileNames.schema);
  return { ...nothing, problem: { file, key: fileNames.schema, message } };
}

/** Never throws. An absent directory or file configures nothing, and is no problem. */
export function readAgentConfig(dir: string): AgentConfig {
  const texts = readTexts(dir);
  if ("message" in texts) return { ...nothing, dir, found: true, problem: texts };
  const { schema, version, settings } = texts;
  const schemaVersion = versionText(schema ?? "");
  const configVersion = versionText(version ?? "");
  const read = settings === undefined ? nothing : readChecked(dir, settings, schemaVersion);
  return {
    dir,
    found: schema !== undefined || version !== undefined || settings !== undefined,
    ...(schemaVersion === "" ? {} : { schemaVersion }),
    ...(configVersion === "" ? {} : { configVersion }),
    ...read,
  };
}
