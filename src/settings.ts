// The settings of a run: configuration, throttle and filters put together from all files; and watching those files.

import { join } from "node:path";
import { type AgentConfig, agentConfigFiles, readAgentConfig } from "./agent-config.ts";
import { apiFileProblems } from "./api/files.ts";
import { tlsFilesOf, tlsOf } from "./api/tls.ts";
import {
  ConfigError,
  type ConfigProblem,
  type ConfigWithSources,
  type Env,
  loadConfigWithSources,
  placesWithoutFile,
} from "./config.ts";
import { emptiedProblems, hasContent } from "./config-emptied.ts";
import type { Config, ConfigInput } from "./config-schema.ts";
import { type FilterRules, parseNetworkLogs, rulesMax } from "./filter-rules.ts";
import { errorText } from "./log.ts";
import { checkSinkFiles } from "./sinks/check.ts";
import { idleKeys } from "./sinks/idle-keys.ts";
import { readText, versionOf } from "./text-file.ts";
import type { ThrottleSettings } from "./throttle.ts";
import { type Rejection, readThrottle, throttleSettings, type WrittenValue } from "./throttle-settings.ts";

export type Settings = {
  /** The documented keys of the throttle are in it as they are in force. */
  readonly config: Config;
  readonly throttle: ThrottleSettings;
  readonly filters: FilterRules;
  /** Whether the configuration map asks for the metrics of the agent itself. */
  readonly internalMetrics: boolean;
  readonly agentConfig: Pick<AgentConfig, "dir" | "found" | "schemaVersion" | "configVersion">;
  /** Values that are not in force as they were written. */
  readonly rejected: readonly Rejection[];
  /** All that must be watched: they were read, or would be if they were there. */
  readonly files: readonly string[];
  /** Files whose content is in force, of those that would mean the defaults if they were empty. */
  readonly filled: readonly string[];
  /** Whether there is a configuration map of which nothing is in force because it is broken. */
  readonly mapPassedOver: boolean;
};

/** A certificate that was replaced is taken over like a changed configuration; tokens are read where they are used. */
function apiTlsFiles({ api }: Config): readonly string[] {
  const tls = tlsOf(api.tls);
  return tls === undefined ? [] : tlsFilesOf(tls);
}

const apiProblems = ({ config, problem }: ConfigWithSources): readonly ConfigProblem[] =>
  apiFileProblems(config.api).map(({ path, message, about }) => ({
    ...problem(["api", ...path], message),
    about,
  }));

// YAML and variables have one kind of number; the throttle's reader tells whole ones by their type.
const asWritten = (value: unknown): unknown =>
  typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;

function throttleOf({ config, given }: ConfigWithSources, agent: AgentConfig) {
  const ownOf = (path: readonly string[]): readonly WrittenValue[] =>
    given(path).map((source) => ({ ...source, value: asWritten(source.value) }));
  return readThrottle((key) => [...ownOf(["throttle", key]), ...agent.written(key)], config.tick);
}

function readFilterFile(file: string): {
  readonly rules: FilterRules;
  readonly problems: readonly ConfigProblem[];
} {
  try {
    return parseNetworkLogs(readText(file), file);
  } catch (error) {
    // Joins the problems of the other files, so that all are told at once.
    const problem = { file, key: "", message: `cannot be read: ${errorText(error)}` };
    return { rules: { include: [], exclude: [] }, problems: [problem] };
  }
}

/** The rules of the configuration, and after them those of the files. */
function readFilters({ filters }: Config): { rules: FilterRules; problems: readonly ConfigProblem[] } {
  const read = filters.files.map(readFilterFile);
  const rules = {
    include: [...filters.include, ...read.flatMap((file) => file.rules.include)],
    exclude: [...filters.exclude, ...read.flatMap((file) => file.rules.exclude)],
  };
  const tooMany = filters.files.slice(0, 1).flatMap((file) =>
    Object.entries(rules)
      .filter(([, list]) => list.length > rulesMax)
      .map(([key, list]) => {
        const message = `makes ${list.length} ${key} rules together with the others, more than ${rulesMax}`;
        return { file, key: "", message };
      }),
  );
  return { rules, problems: [...read.flatMap((file) => file.problems), ...tooMany] };
}

const passedOver = (problem: ConfigProblem): Rejection => ({
  ...problem,
  value: "",
  message: `${problem.message}; nothing of it is in force`,
});

const idleSinkKeys = ({ config, sinkProblem }: ConfigWithSources): readonly Rejection[] =>
  config.sinks.flatMap((sink, index) =>
    idleKeys(sink).map(({ key, message }) => ({
      ...sinkProblem(index, key.split("."), message),
      value: "",
    })),
  );

/** When a load is, and what is in force then. */
export type LoadTime = {
  /**
   * At a start a configuration map that is broken is passed over, as by the reference agent: it is shared with other
   * agents. Later it refuses the change, unless it was passed over before: what is in force is better than defaults.
   */
  readonly starting: boolean;
  readonly inForce?: Pick<Settings, "filled" | "mapPassedOver">;
};

export type LoadOptions = LoadTime & {
  readonly file?: string;
  readonly env: Env;
  readonly overrides?: ConfigInput;
};

/** Absent keys are the defaults, so that a file cut down to nothing is one that can be read: only what was there tells. */
function yamlEmptied({ file, inForce }: LoadOptions): readonly ConfigProblem[] {
  if (file === undefined || inForce?.filled.includes(file) !== true) return [];
  return emptiedProblems(file, { mayGo: false, way: "write {} into it" });
}

const mapFile = ({ dir }: AgentConfig): string => join(dir, "agent-settings");

/** A map that is deleted goes as a whole, and configures nothing from then on. */
function mapEmptied(agent: AgentConfig, { inForce }: LoadTime): readonly ConfigProblem[] {
  const file = mapFile(agent);
  if (inForce?.filled.includes(file) !== true) return [];
  return emptiedProblems(file, { mayGo: true, way: "write [agent_settings] into it" });
}

/** Throws a ConfigError with all that is wrong in the configuration, or else in the files that it names. */
export function loadSettings(options: LoadOptions): Settings {
  const { starting, inForce, ...source } = options;
  const emptied = yamlEmptied(options);
  if (emptied.length > 0) throw new ConfigError(emptied);
  const loaded = loadConfigWithSources(source);
  const { config } = loaded;
  const agent = readAgentConfig(config.throttle.agentConfig);
  const filters = readFilters(config);
  const broken = agent.problem === undefined ? [] : [agent.problem];
  const passes = starting || inForce?.mapPassedOver === true;
  const problems = [
    ...filters.problems,
    ...(passes ? [] : broken),
    ...mapEmptied(agent, options),
    // Before anything is closed for a change; at a start, what opens the API tells of them.
    ...(starting ? [] : apiProblems(loaded)),
  ];
  if (problems.length > 0) throw new ConfigError(problems);
  const throttle = throttleOf(loaded, agent);
  const { dir, found, schemaVersion, configVersion, internalMetrics } = agent;
  const files = source.file === undefined ? [] : [source.file];
  return {
    config: { ...config, throttle: { ...config.throttle, ...throttle.values } },
    throttle: throttleSettings(throttle.values, config.throttle, config.tick),
    filters: filters.rules,
    internalMetrics,
    agentConfig: {
      dir,
      found,
      ...(schemaVersion === undefined ? {} : { schemaVersion }),
      ...(configVersion === undefined ? {} : { configVersion }),
    },
    rejected: [...broken.map(passedOver), ...throttle.rejected, ...agent.rejected, ...idleSinkKeys(loaded)],
    files: [
      ...new Set([...files, ...agentConfigFiles(dir), ...config.filters.files, ...apiTlsFiles(config)]),
    ],
    filled: [...files, ...(broken.length > 0 ? [] : [mapFile(agent)])].filter(hasContent),
    mapPassedOver: broken.length > 0,
  };
}

/** What is wrong with the files that the API is opened with. Throws a ConfigError for the configuration itself. */
export const findApiProblems = (source: Omit<LoadOptions, keyof LoadTime>): readonly ConfigProblem[] =>
  apiProblems(loadConfigWithSources(source));

/**
 * What is wrong with the files and credentials that enabled sinks name. A start goes on all the same: a sink reads its
 * files when it sends, and the other sinks do not wait for it. Throws a ConfigError for the configuration itself.
 */
export function findSinkProblems(source: Omit<LoadOptions, keyof LoadTime>): readonly ConfigProblem[] {
  const { config, sinkProblem } = loadConfigWithSources(source);
  return config.sinks.flatMap((sink, index) =>
    sink.enabled
      ? checkSinkFiles(sink, { env: source.env }).map(({ key, message }) =>
          sinkProblem(index, key.split("."), message),
        )
      : [],
  );
}

/** What a load came to. The error is a ConfigError, or a fault of the program: that too leaves all as it was. */
export type SettingsChange = { readonly settings: Settings } | { readonly error: unknown };

const pseudoFiles: readonly string[] = Object.values(placesWithoutFile);

/** The files that decide what a further load would come to. */
function filesOf(change: SettingsChange): readonly string[] {
  if ("settings" in change) return change.settings.files;
  if (!(change.error instanceof ConfigError)) return [];
  const files = new Set(change.error.problems.flatMap(({ file, about = [] }) => [file, ...about]));
  return [...files].filter((file) => !pseudoFiles.includes(file));
}

type Versions = ReadonlyMap<string, string>;

const areSame = (some: Versions, others: Versions): boolean =>
  [...some].every(([file, version]) => others.get(file) === version);

const versionsOf = (files: Iterable<string>): Versions =>
  new Map([...files].map((file) => [file, versionOf(file)]));

// Each further load is for files that the one before has named.
const loadsMax = 4;

/** Loads until each file that matters was looked at before it was read: so no change of it goes unseen. */
function loadLooking(
  load: () => Settings,
  first: readonly string[],
): { readonly change: SettingsChange; readonly versions: Versions } {
  let files = new Set(first);
  for (let loads = 1; ; loads++) {
    const versions = versionsOf(files);
    const change = attempt(load);
    const named = filesOf(change);
    // A file that was not looked at counts as changed at the next poll.
    if (loads === loadsMax || named.every((file) => files.has(file))) return { change, versions };
    files = new Set([...files, ...named]);
  }
}

function attempt(load: () => Settings): SettingsChange {
  try {
    return { settings: load() };
  } catch (error) {
    return { error };
  }
}

export type SettingsWatch = {
  /** The settings to start with. */
  readonly first: Settings;
  /**
   * Costs one stat a file and never waits; tells each change of the files once, when two polls have seen them the same:
   * a file that is being written can be read, and is cut short.
   */
  poll(): SettingsChange | undefined;
  /** What was polled last could not be put in force: these are. */
  keep(settings: Settings): void;
};

/** Polls that wait for files to come to rest. What is written ever again must not keep all others from being read. */
const waitsMax = 10;

/** Whether what a poll sees is to be read: it is not what was read, and stays, or has changed for too long. */
function createRest(): (seen: Versions, read: Versions) => boolean {
  let last: Versions = new Map();
  let waits = 0;
  return (seen, read) => {
    const changed = !areSame(seen, read);
    const rests = waits > 0 && areSame(seen, last);
    waits = !changed || rests || waits === waitsMax ? 0 : waits + 1;
    last = seen;
    return changed && waits === 0;
  };
}

/** `files` are watched whatever a load names. Throws what the first load throws. */
export function watchSettings(options: {
  readonly files: readonly string[];
  readonly load: (time: LoadTime) => Settings;
}): SettingsWatch {
  const start = loadLooking(() => options.load({ starting: true }), options.files);
  if ("error" in start.change) throw start.change.error;
  const first = start.change.settings;
  let inForce = first;
  let watched = new Set([...options.files, ...first.files]);
  let { versions } = start;
  const rest = createRest();
  return {
    first,
    poll: () => {
      if (!rest(versionsOf(watched), versions)) return undefined;
      const next = loadLooking(() => options.load({ starting: false, inForce }), [...watched]);
      // After a refusal: the files of what stays in force, and those that would have to be put right.
      if ("settings" in next.change) inForce = next.change.settings;
      watched = new Set([...options.files, ...inForce.files, ...filesOf(next.change)]);
      versions = next.versions;
      return next.change;
    },
    keep: (settings) => {
      inForce = settings;
      watched = new Set([...watched, ...settings.files]);
    },
  };
}
