// The configuration of a run without a file that was named: the default place, where there may be none.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSource } from "../src/cli/run.ts";
import { places } from "../src/places.ts";
import { watchSettings } from "../src/settings.ts";

const { configFile } = places;
let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fovea-source-"));
  Object.assign(places, { configFile: join(directory, "fovea.yaml") });
});
afterEach(() => {
  Object.assign(places, { configFile });
  rmSync(directory, { recursive: true });
});

const source = () => {
  const { file, load } = configSource({ env: { FOVEA_THROTTLE_AGENT_CONFIG: directory } }, {});
  return { file, watch: () => watchSettings({ files: [file], load }) };
};

test("an absent file means the defaults, and one that comes is read", () => {
  const { file, watch } = source();
  const { first, poll } = watch();
  expect(first).toMatchObject({ config: { tick: 1000 }, filled: [] });
  writeFileSync(file, "tick: 20s\n");
  expect(poll()).toBeUndefined();
  expect(poll()).toMatchObject({ settings: { config: { tick: 20_000 }, filled: [file] } });
});

test("a file that goes is refused, and comes back", () => {
  const { file, watch } = source();
  writeFileSync(file, "tick: 20s\n");
  const { poll } = watch();
  rmSync(file);
  expect(poll()).toBeUndefined();
  expect(poll()).toMatchObject({
    error: { problems: [{ file, message: expect.stringContaining("is gone; what was in force stays") }] },
  });
  expect(poll()).toBeUndefined();
  writeFileSync(file, "tick: 30s\n");
  expect(poll()).toBeUndefined();
  expect(poll()).toMatchObject({ settings: { config: { tick: 30_000 } } });
});
