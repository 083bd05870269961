// Flags and their twins in the environment.

import { type Command, InvalidArgumentError, Option } from "commander";
import type { Env } from "../config.ts";
import { UsageError } from "./world.ts";

const twins = new WeakMap<Option, string>();
/** Values of the variable that leave the flag at its default. */
const passedOver = new WeakMap<Option, readonly string[]>();

/**
 * A flag that `variable` stands in for. commander's own `env` is not used: it takes an empty variable for a value
 * and FOVEA_QUERY_FOLLOW=false for true.
 */
export function flag(
  flags: string,
  description: string,
  variable: string,
  parse?: (text: string, before: unknown) => unknown,
): Option {
  const option = new Option(flags, `${description} (env: ${variable})`);
  if (parse !== undefined) option.argParser(parse);
  twins.set(option, variable);
  return option;
}

/** The formats of all verbs: FOVEA_OUTPUT is one variable for all of them. */
const outputs = ["table", "text", "yaml", "json", "csv"] as const;

/** What a verb prints: one of `formats`, the first where the variable names a format that only other verbs have. */
export function outputFlag(
  description: string,
  formats: readonly [(typeof outputs)[number], ...(typeof outputs)[number][]],
): Option {
  const option = flag("-o, --output <format>", description, "FOVEA_OUTPUT", oneOf(formats));
  passedOver.set(
    option,
    outputs.filter((output) => !formats.includes(output)),
  );
  return option.default(formats[0]);
}

/** A flag that is a key of the configuration too, which reads the variable itself. */
export const configFlag = (flags: string, description: string, variable: string): Option =>
  new Option(flags, `${description} (env: ${variable})`);

/** Takes one of a few words. */
export const oneOf =
  (names: readonly string[]) =>
  (text: string): string => {
    if (names.includes(text)) return text;
    throw new InvalidArgumentError(`It is one of ${names.join(", ")}.`);
  };

/** May be repeated, and takes several at once, with commas. */
export const several = (text: string, before: unknown): readonly string[] => [
  ...(Array.isArray(before) ? before : []),
  ...text.split(",").map((part) => part.trim()),
];

const isYes = (text: string): boolean => /^(1|true|yes|on)$/i.test(text.trim());

/** Fills in what the command line left open. */
export function readTwins(command: Command, env: Env): void {
  for (const option of command.options) {
    const variable = twins.get(option);
    const text = variable === undefined ? undefined : env[variable];
    const name = option.attributeName();
    if (text === undefined || text === "" || passedOver.get(option)?.includes(text)) continue;
    if (command.getOptionValueSource(name) === "cli") continue;
    try {
      const value = option.isBoolean() ? isYes(text) : (option.parseArg?.(text, undefined) ?? text);
      command.setOptionValueWithSource(name, value, "env");
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      throw new UsageError(`${variable} "${text}" is wrong. ${error.message}`);
    }
  }
}

/** Variables that belong to verbs and to no key of the configuration. */
export const isVerbVariable = (name: string): boolean =>
  /^FOVEA_(QUERY_|CLIENT_|EXPORT_|IMPORT_|TOP_|SERVER$|OUTPUT$|CONFIG$|REPLAY$|REPLAY_LOOP$|RECORD$)/.test(
    name,
  );
