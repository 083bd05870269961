// What a verb gets from outside: streams, environment, build facts and the door to the platform.

import { existsSync } from "node:fs";
import type { Env } from "../config.ts";
import type { Config } from "../config-schema.ts";
import type { BuildFacts } from "../metrics-view.ts";
import type { Notifier } from "../sd-notify.ts";
import type { Backend } from "../snapshot.ts";
import type { Keyboard } from "./keyboard.ts";
import type { Output } from "./output.ts";

/** Called wrongly: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export type Build = BuildFacts;

export type World = {
  readonly out: Output;
  readonly err: Output;
  /** Where a terminal is typed on. */
  readonly keyboard?: Keyboard;
  readonly env: Env;
  readonly build: Build;
  /** Aborts when the process is asked to end. */
  readonly stop: AbortSignal;
  /** The collectors of this platform; throws, with the reason, where there are none. */
  readonly openBackend: (config: Config) => Promise<Backend>;
  /** Loads what the SQLite addon needs from outside itself, by way of files in this directory where memory does not do. */
  readonly loadAddonLibraries: (directory: string) => Promise<void>;
  readonly notifier: Notifier;
};

export const configFileDefault = "/etc/fovea/fovea.yaml";

/** The file that was named, or the one of the packages where it exists. */
export const configFile = (given: string | undefined): string | undefined =>
  given ?? (existsSync(configFileDefault) ? configFileDefault : undefined);
