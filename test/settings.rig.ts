// A directory of configuration files for each test: its files, and a load of them.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LoadOptions, loadSettings, type Settings } from "../src/settings.ts";

let directory = "";

export function makeDirectory(): void {
  directory = mkdtempSync(join(tmpdir(), "fovea-settings-"));
}

export const removeDirectory = (): void => rmSync(directory, { recursive: true });

export const path = (name: string) => join(directory, name);

export function write(name: string, text: string): string {
  mkdirSync(join(path(name), ".."), { recursive: true });
  writeFileSync(path(name), text);
  return path(name);
}

/** The YAML of a run whose configuration map is, or would be, in this directory. */
export const yaml = (text = "", throttle = ""): string =>
  write("fovea.yaml", `throttle:\n  agentConfig: ${path("agent")}\n${throttle}${text}`);

export function agent(table: string, schema = "v1"): void {
  write("agent/schema-version", schema);
  write("agent/agent-settings", `[agent_settings.networkflow_logs_config]\n${table}`);
}

export const load = (changed: Partial<LoadOptions> = {}): Settings =>
  loadSettings({ file: path("fovea.yaml"), env: {}, starting: true, ...changed });

/** A custom resource with this term of an include filter. */
export const network = (term: string) =>
  `apiVersion: acn.azure.com/v1alpha1\nkind: ContainerNetworkLog\nmetadata: {name: a}\nspec:\n  includefilters:\n    - ${term}\n`;
