// What a verb gets from outside: streams, environment, build facts and the door to the platform.

import { existsSync } from "node:fs";
import type { Env } from "../config.ts";
import type { Guard } from "../guard.ts";
import type { Log } from "../log.ts";
import type { BuildFacts } from "../metrics-view.ts";
import type { ObservingConfig } from "../observing.ts";
import { places } from "../places.ts";
import type { Notifier } from "../sd-notify.ts";
import type { Backend } from "../snapshot.ts";
import type { Keyboard } from "./keyboard.ts";
import type { Output } from "./output.ts";

/** Called wrongly: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export type Build = BuildFacts;

/** What the process of a service has instead of a terminal and signals. */
export type ServiceProcess = {
  /** Aborts when the service is asked to stop. */
  readonly stop: AbortSignal;
  readonly notifier: Notifier;
  /** Keeps a line of the log. */
  write(line: string): void;
  /** To be called as soon as it is sure that the service can run. */
  running(): void;
};

export type ServiceFacts = {
  /** stopped, start-pending, running, stop-pending, … */
  readonly state: string;
  /** Absent while it is stopped. */
  readonly pid?: number;
  /** Of its last end; zero while it runs. */
  readonly exitCode: number;
};

export type InstallOptions = {
  /** Those that the service manager starts this program with. */
  readonly args: readonly string[];
  readonly configFile: string;
  readonly dataDir: string;
  /** Sets the service that is there right, whoever made it, instead of refusing. */
  readonly takeOver: boolean;
};

/** The services of this platform, and the one that is ours. */
export type Services = {
  /** Throws, before anything is read or made, where it may not be installed or a user could have decided what it does. */
  checkInstall(configFile: string): void;
  /** Throws a ConfigError for a file that somebody else than an administrator has or may change; none is right. */
  checkConfigFile(file: string): void;
  /** Returns what could not be set, if anything. */
  install(options: InstallOptions): Promise<readonly string[]>;
  /** Stops it first. False when there was none. */
  uninstall(): Promise<boolean>;
  /** Resolves when it runs, has ended again, or takes too long. */
  start(): Promise<ServiceFacts>;
  stop(): Promise<ServiceFacts>;
  status(): ServiceFacts;
  /** In the process that the service manager has started. Resolves with the exit code; what `work` throws is logged. */
  serve(work: (service: ServiceProcess) => Promise<void>): Promise<number>;
  /** Where to look for what went wrong. */
  readonly logFile: string;
};

/** Whom a backend works for: a check must leave a service that runs beside it what that one has opened. */
type BackendOwner = "service" | "check";

export type BackendAsked = {
  /** The service where nothing is said. */
  readonly owner?: BackendOwner;
  /** Where a backend tells what is no failure. */
  readonly log?: Log;
};

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
  readonly openBackend: (config: ObservingConfig, asked?: BackendAsked) => Promise<Backend>;
  /** Loads what the SQLite addon needs from outside itself, by way of files in this directory where memory does not do. */
  readonly loadAddonLibraries: (directory: string) => Promise<void>;
  /** Absent where modes of files say enough. */
  readonly guard?: Guard;
  readonly notifier: Notifier;
  /** Aborts when the system ends what runs in consoles, where that is no signal. */
  readonly shutdownSignal?: () => Promise<AbortSignal>;
  /** Absent where the platform starts programs by other means. */
  readonly openServices?: () => Promise<Services>;
};

/** The file that was named, or the one of the packages where it exists. */
export const configFile = (given: string | undefined): string | undefined =>
  given ?? (existsSync(places.configFile) ? places.configFile : undefined);
