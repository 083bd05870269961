// Configuration: file, environment and command line read into one checked object; and printing it.

import { isCollection, LineCounter, parseDocument, stringify } from "yaml";
import type { z } from "zod";
import { isLoopback } from "./api/auth.ts";
import {
  type Config,
  type ConfigInput,
  type ConfigKey,
  configKeys,
  configSchema,
  printValue,
} from "./config-schema.ts";
import { printListen } from "./config-units.ts";
import { errorText } from "./log.ts";
import { makeTokenFile } from "./private-file.ts";
import { readText } from "./text-file.ts";
import { offsetOf } from "./yaml-place.ts";

export type Env = Readonly<Record<string, string | undefined>>;

/** Where a value comes from that stands in no file. */
export const placesWithoutFile = {
  environment: "environment",
  commandLine: "command line",
  defaults: "defaults",
} as const;

/** `file` is where the value came from: a path, or one of `placesWithoutFile`. */
export type ConfigProblem = {
  readonly file: string;
  readonly line?: number;
  readonly key: string;
  readonly message: string;
  /** Files beside it that could be put right instead. */
  readonly about?: readonly string[];
};

const problemText = ({ file, line, key, message }: ConfigProblem): string =>
  `${file}${line === undefined ? "" : `:${line}`}: ${key === "" ? "" : `${key} `}${message}`;

export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];
  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(problemText).join("\n"));
    this.problems = problems;
  }
}

type Tree = { [key: string]: unknown };

/** What one source gave, and where in it a key stands. */
type Source = {
  readonly file: string;
  readonly given: unknown;
  readonly problems: readonly ConfigProblem[];
  lineOf(path: readonly PropertyKey[]): number | undefined;
  nameOf(path: readonly PropertyKey[]): string;
};

const dotted = (path: readonly PropertyKey[]): string => path.map(String).join(".");
const isTree = (value: unknown): value is Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A copy without the keys that hold nothing: an empty value is one that is not set. */
function withoutEmpty(value: unknown): unknown {
  if (!isTree(value)) return value;
  const kept = Object.entries(value).filter(([, inner]) => inner !== null && inner !== undefined);
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutEmpty(inner)]));
}

const emptySource = { given: {}, lineOf: () => undefined, nameOf: dotted };

function fileSource(file: string): Source {
  let text: string;
  try {
    text = readText(file);
  } catch (error) {
    // Joins the other problems, so that all are told at once.
    const message = `cannot be read: ${errorText(error)}`;
    return { ...emptySource, file, problems: [{ file, key: "", message }] };
  }
  return yamlSource(file, text);
}

function yamlSource(file: string, text: string): Source {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const faults = [...document.errors, ...document.warnings];
  const problems = faults.map(({ pos, message }): ConfigProblem => {
    const { line } = lines.linePos(pos[0]);
    return { file, line, key: "", message: `is not the YAML that is expected: ${message}` };
  });
  const lineOf = (path: readonly PropertyKey[]) => {
    const offset = offsetOf(document.contents, path);
    return offset === undefined ? undefined : lines.linePos(offset).line;
  };
  if (document.errors.length > 0) return { ...emptySource, file, problems };
  try {
    return { file, given: withoutEmpty(document.toJS() ?? {}), problems, lineOf, nameOf: dotted };
  } catch (error) {
    // Aliases that would make a small file a huge object.
    const message = `is not the YAML that is expected: ${errorText(error)}`;
    return { ...emptySource, file, problems: [...problems, { file, key: "", message }] };
  }
}

/** FOVEA_STORE_BYTES_MAX of store.bytesMax; FOVEA_THROTTLE_RATE of throttle.throttle_rate: no section is named twice. */
function variableOf(path: readonly PropertyKey[]): string {
  const names = path.map((name) => String(name).replace(/[A-Z]/g, "_$&").toUpperCase());
  const short = names.map((name, at) => {
    const section = `${names[at - 1]}_`;
    return name.startsWith(section) ? name.slice(section.length) : name;
  });
  return `FOVEA_${short.join("_")}`;
}

type YamlReading = { readonly values: readonly unknown[]; readonly fault?: string };

/** Lists and sections may be given as YAML, which JSON is too. */
function yamlReading(text: string): YamlReading {
  const document = parseDocument(text, { prettyErrors: false });
  const error = document.errors[0];
  if (error !== undefined) return { values: [], fault: error.message };
  if (!isCollection(document.contents)) return { values: [] };
  try {
    return { values: [document.toJS()] };
  } catch (error) {
    return { values: [], fault: errorText(error) }; // Aliases that would make a huge object.
  }
}

/** What is wrong with the YAML that this seems to be: that is more telling than how else it could be read. */
const yamlFault = (text: string): string | undefined =>
  /^\s*([[{]|- )/.test(text) ? yamlReading(text).fault : undefined;

// A variable is text. Which of these it means, the key decides.
function readingsOf(text: string): readonly unknown[] {
  const readings: unknown[] = [text];
  if (/^-?\d+(\.\d+)?$/.test(text.trim())) readings.push(Number(text));
  if (/^(true|false)$/i.test(text.trim())) readings.push(text.trim().toLowerCase() === "true");
  readings.push(text.split(",").map((part) => part.trim()));
  readings.push(...yamlReading(text).values);
  return readings;
}

/** How close a reading came: an issue inside a list, or about the value instead of its kind, is the more telling. */
const closeness = (issue: z.core.$ZodIssue | undefined): number =>
  issue === undefined
    ? Number.POSITIVE_INFINITY
    : 2 * issue.path.length + (issue.code === "invalid_type" ? 0 : 1);

function fromText({ schema }: ConfigKey, text: string): { readonly value: unknown; readonly fault?: string } {
  const tried = readingsOf(text).map((value) => ({
    value,
    closeness: closeness(schema.safeParse(value).error?.issues[0]),
  }));
  const best = tried.reduce((found, next) => (next.closeness > found.closeness ? next : found));
  const fault = Number.isFinite(best.closeness) ? yamlFault(text) : undefined;
  return { value: best.value, ...(fault === undefined ? {} : { fault }) };
}

function environmentSource(env: Env): Source {
  const given: Tree = {};
  const problems: ConfigProblem[] = [];
  const file = placesWithoutFile.environment;
  const nameOf = (path: readonly PropertyKey[]) => `${variableOf(path)} (key ${dotted(path)})`;
  for (const key of configKeys()) {
    const text = env[variableOf(key.path)];
    if (text === undefined || text === "") continue;
    const { value, fault } = fromText(key, text);
    if (fault === undefined) setAt(given, key.path, value);
    else
      problems.push({ file, key: nameOf(key.path), message: `is not the YAML that is expected: ${fault}` });
  }
  return { ...emptySource, file, given, problems, nameOf };
}

function setAt(tree: Tree, path: readonly string[], value: unknown): void {
  const [name, ...rest] = path;
  if (name === undefined) return;
  if (rest.length === 0) {
    tree[name] = value;
    return;
  }
  const inner = tree[name];
  const branch: Tree = isTree(inner) ? inner : {};
  tree[name] = branch;
  setAt(branch, rest, value);
}

function merged(below: unknown, above: unknown): unknown {
  if (!isTree(below) || !isTree(above)) return above;
  const tree: Tree = { ...below };
  for (const [key, value] of Object.entries(above))
    tree[key] = key in tree ? merged(tree[key], value) : value;
  return tree;
}

/** Of a name that the key itself has, as of a label: what is wrong with that name. */
const messageOf = (issue: z.core.$ZodIssue): string =>
  (issue.code === "invalid_key" ? issue.issues[0]?.message : undefined) ?? issue.message;

function problemsOf(source: Source, issues: readonly z.core.$ZodIssue[]): ConfigProblem[] {
  return issues.flatMap((issue): ConfigProblem[] => {
    const unknown = issue.code === "unrecognized_keys" ? issue.keys : [];
    const paths = unknown.length > 0 ? unknown.map((key) => [...issue.path, key]) : [issue.path];
    return paths.map((path) => {
      const line = source.lineOf(path);
      const message = unknown.length > 0 ? "is no key of the configuration" : messageOf(issue);
      const key = source.nameOf(path);
      return { file: source.file, key, message, ...(line === undefined ? {} : { line }) };
    });
  });
}

/** Rules between keys, told at the source that set the first of them. */
function crossProblems(
  config: Config,
): readonly { readonly path: readonly string[]; readonly message: string }[] {
  const { listen, api, flows } = config;
  const { certFile, keyFile, clientCaFile } = api.tls;
  const local = listen.host.toLowerCase() === "localhost" || isLoopback(listen.host);
  const problems: { path: readonly string[]; message: string }[] = [];
  if (!local && api.tokenFile === undefined && clientCaFile === undefined)
    problems.push({
      path: ["listen"],
      message:
        `${printListen(listen)} can be reached from other machines: set api.tokenFile to a file with a token ` +
        `(${makeTokenFile}), or api.tls.clientCaFile for mutual TLS, ` +
        `or listen on 127.0.0.1`,
    });
  if (certFile !== undefined && keyFile === undefined)
    problems.push({ path: ["api", "tls", "certFile"], message: "needs api.tls.keyFile as well" });
  if (keyFile !== undefined && certFile === undefined)
    problems.push({ path: ["api", "tls", "keyFile"], message: "needs api.tls.certFile as well" });
  if (clientCaFile !== undefined && certFile === undefined)
    problems.push({
      path: ["api", "tls", "clientCaFile"],
      message: "needs api.tls.certFile and keyFile as well",
    });
  if (flows.active < flows.idle)
    problems.push({ path: ["flows", "active"], message: "is shorter than flows.idle" });
  return problems;
}

const holds = (given: unknown, [name, ...rest]: readonly string[]): boolean =>
  name === undefined || (isTree(given) && Object.hasOwn(given, name) && holds(given[name], rest));

const valueAt = (value: unknown, [name, ...rest]: readonly string[]): unknown =>
  name === undefined ? value : isTree(value) ? valueAt(value[name], rest) : undefined;

/** `path` may go on into a list; `key` is what decides between the sources. */
type Fault = {
  readonly key: readonly string[];
  readonly path: readonly PropertyKey[];
  readonly message: string;
};

/** Told at the source that set the key. */
function placed({ key: set, path, message }: Fault, sources: readonly Source[]): ConfigProblem {
  const source = sources.findLast(({ given }) => holds(given, set));
  const line = source?.lineOf(path);
  const key = source?.nameOf(path) ?? dotted(path);
  const file = source?.file ?? placesWithoutFile.defaults;
  return { file, key, message, ...(line === undefined ? {} : { line }) };
}

function checkTogether(config: Config, sources: readonly Source[]): void {
  const problems = crossProblems(config).map(({ path, message }) =>
    placed({ key: path, path, message }, sources),
  );
  if (problems.length > 0) throw new ConfigError(problems);
}

/** A value as one source has it. */
export type Given = { readonly value: unknown; readonly file: string; readonly line?: number };

export type ConfigWithSources = {
  readonly config: Config;
  /** What the sources have for a key; the one that goes before the others first. */
  given(path: readonly string[]): readonly Given[];
  /** What was found wrong in the value of a key. */
  problem(path: readonly string[], message: string): ConfigProblem;
  /** What was found wrong in one sink of the list, at `path` in that sink. */
  sinkProblem(index: number, path: readonly string[], message: string): ConfigProblem;
};

type LoadOptions = { readonly file?: string; readonly env: Env; readonly overrides?: ConfigInput };

function sourcesOf({ file, env, overrides = {} }: LoadOptions): readonly Source[] {
  const commandLine = {
    ...emptySource,
    file: placesWithoutFile.commandLine,
    given: withoutEmpty(overrides),
    problems: [],
  };
  return [...(file === undefined ? [] : [fileSource(file)]), environmentSource(env), commandLine];
}

/** Command line over environment over file over default. Throws a ConfigError with all problems of all sources. */
export function loadConfigWithSources(options: LoadOptions): ConfigWithSources {
  const sources = sourcesOf(options);
  const problems = sources.flatMap((source) => {
    const { error } = configSchema.safeParse(source.given);
    return [...source.problems, ...(error === undefined ? [] : problemsOf(source, error.issues))];
  });
  if (problems.length > 0) throw new ConfigError(problems);
  const config = configSchema.parse(sources.map((source) => source.given).reduce(merged, {}));
  checkTogether(config, sources);
  const given = (path: readonly string[]) =>
    sources.toReversed().flatMap((source): readonly Given[] => {
      if (!holds(source.given, path)) return [];
      const line = source.lineOf(path);
      const value = valueAt(source.given, path);
      return [{ value, file: source.file, ...(line === undefined ? {} : { line }) }];
    });
  const problem = (path: readonly string[], message: string) => placed({ key: path, path, message }, sources);
  const sinkProblem = (index: number, path: readonly string[], message: string) =>
    placed({ key: ["sinks"], path: ["sinks", index, ...path], message }, sources);
  return { config, given, problem, sinkProblem };
}

/** The configuration alone. The documented keys of the throttle stand in it as they were written: see settings.ts. */
export const loadConfig = (options: LoadOptions): Config => loadConfigWithSources(options).config;

// These belong to the command line alone.
const commandVariables = ["FOVEA_CONFIG", "FOVEA_REPLAY", "FOVEA_RECORD"];
// Kubernetes sets these for a service named fovea.
const serviceVariable = /^FOVEA_(SERVICE_|PORT$|PORT_)/;

/** Variables that look like ours and mean nothing: most likely misspelt. */
export function unknownVariables(env: Env): readonly string[] {
  const known = new Set([...commandVariables, ...configKeys().map(({ path }) => variableOf(path))]);
  return Object.keys(env).filter(
    (name) => name.startsWith("FOVEA_") && !known.has(name) && !serviceVariable.test(name),
  );
}

/** YAML with every key, in the form in which it may be given again. Holds paths of secrets, never secrets. */
export function printConfig(config: Config): string {
  const tree: Tree = {};
  for (const { path } of configKeys()) setAt(tree, path, printValue(dotted(path), valueAt(config, path)));
  return stringify(tree);
}
