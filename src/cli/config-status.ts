// How far the settings in force are from the files: what was taken over, what was refused, which values do not count.

import type { Log } from "../log.ts";
import type { Settings } from "../settings.ts";
import type { ConfigStatus } from "../status.ts";
import { throttleKeys } from "../throttle-settings.ts";

/** Counted under their names; all others under one, because anybody may write any key. */
const countedKeys: readonly string[] = [
  ...throttleKeys,
  "enable_internal_metrics",
  "schema-version",
  "agent-settings",
];
const otherKey = "other";

const countedAs = (key: string): string => (countedKeys.includes(key) ? key : otherKey);

export type StatusKeeper = {
  status(): ConfigStatus;
  applied(settings: Settings): void;
  refused(problems: readonly string[]): void;
};

/** Each value that is not in force as written is logged once for every load that is taken over. */
export function createConfigStatus(options: {
  readonly file: string;
  readonly warnings: readonly string[];
  readonly log: Log;
  /** What the appliance starts with. */
  readonly first: Settings;
}): StatusKeeper {
  const { file, warnings, log, first } = options;
  const zeros = Object.fromEntries([...countedKeys, otherKey].map((key) => [key, 0]));
  let status: ConfigStatus = {
    file,
    warnings,
    reloaded: 0,
    refused: 0,
    problems: [],
    rejected: [],
    rejectedTotal: zeros,
    agentConfig: first.agentConfig,
  };
  const take = ({ rejected, agentConfig }: Settings) => {
    const rejectedTotal = { ...status.rejectedTotal };
    for (const { file: place, line, key, value, message } of rejected) {
      rejectedTotal[countedAs(key)] = (rejectedTotal[countedAs(key)] ?? 0) + 1;
      log.warn("a value of the configuration is not in force as written", {
        file: place,
        ...(line === undefined ? {} : { line }),
        key,
        ...(value === "" ? {} : { value }),
        problem: message,
      });
    }
    status = { ...status, rejected, rejectedTotal, agentConfig };
  };
  take(first);
  return {
    status: () => status,
    applied: (settings) => {
      status = { ...status, reloaded: status.reloaded + 1, problems: [] };
      take(settings);
    },
    refused: (problems) => {
      status = { ...status, refused: status.refused + 1, problems };
    },
  };
}
