// The state of the configuration: reloads, refusals, and values that are not in force, logged and counted.

import { expect, test } from "bun:test";
import { createConfigStatus } from "../src/cli/config-status.ts";
import { createLog } from "../src/log.ts";
import { loadSettings, type Settings } from "../src/settings.ts";
import type { Rejection } from "../src/throttle-settings.ts";

const plain = loadSettings({ env: { FOVEA_THROTTLE_AGENT_CONFIG: "/nonexistent" }, starting: true });
const withRejected = (...rejected: Rejection[]): Settings => ({ ...plain, rejected });
const rate: Rejection = { file: "/f", line: 3, key: "throttle_rate", value: "0", message: "is not" };
const stray: Rejection = { file: "/m", key: "throttle_burst", value: "", message: "is no key" };

test("values are logged and counted once for each load that is taken over", () => {
  const lines: string[] = [];
  const write = (line: string) => lines.push(line);
  const log = createLog({ level: "info", format: "json", now: Date.now, write });
  const idle = createConfigStatus({ file: "/f", warnings: ["w"], log, first: plain }).status();
  expect(idle).toMatchObject({ file: "/f", warnings: ["w"], reloaded: 0, rejected: [] });
  expect(Object.values(idle.rejectedTotal)).toEqual(Array(9).fill(0));
  expect(lines).toEqual([]);
  const keeper = createConfigStatus({ file: "/f", warnings: [], log, first: withRejected(rate, stray) });
  expect(keeper.status()).toMatchObject({ reloaded: 0, rejected: [rate, stray] });
  expect(keeper.status().agentConfig).toEqual({ dir: "/nonexistent", found: false });
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: "warn", file: "/f", line: 3, key: "throttle_rate", value: "0", problem: "is not" },
    { level: "warn", file: "/m", key: "throttle_burst", problem: "is no key" },
  ]);
  keeper.refused(["/f:1: tick is wrong"]);
  expect(keeper.status()).toMatchObject({
    refused: 1,
    problems: ["/f:1: tick is wrong"],
    rejected: [rate, stray],
  });
  keeper.applied(withRejected(rate));
  expect(keeper.status()).toMatchObject({ reloaded: 1, problems: [], rejected: [rate] });
  const mounted = { dir: "/m", found: true, configVersion: "ver2" };
  keeper.applied({ ...plain, agentConfig: mounted });
  const { rejected, rejectedTotal, agentConfig } = keeper.status();
  expect([rejected, agentConfig]).toEqual([[], mounted]);
  expect(rejectedTotal).toMatchObject({ throttle_rate: 2, other: 1, throttle_window: 0 });
  expect(Object.keys(rejectedTotal)).toHaveLength(9); // A key that anybody writes makes no new series.
  expect(lines).toHaveLength(3);
});
