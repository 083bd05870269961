// fovea config check|print: whether the configuration is right, and what it comes to.

import type { Command } from "commander";
import { ConfigError, loadConfig, printConfig, unknownVariables } from "../config.ts";
import type { Config } from "../config-schema.ts";
import { places } from "../places.ts";
import { findApiProblems, findSinkProblems, loadSettings, type Settings } from "../settings.ts";
import { shownSink, sinkNotes } from "../sinks/config.ts";
import { rejectionText } from "../throttle-settings.ts";
import { flag, isVerbVariable, outputFlag } from "./flags.ts";
import { printJson, printLines } from "./output.ts";
import { harmless } from "./terminal.ts";
import { configFile, type World } from "./world.ts";

type Options = { config?: string; output?: string };

export const configFileFlag = () =>
  flag("-c, --config <file>", `configuration file; ${places.configFile} where it exists`, "FOVEA_CONFIG");

/** Variables that look like ours and mean nothing, one sentence each. */
export const strayVariables = (env: World["env"]): readonly string[] =>
  unknownVariables(env)
    .filter((name) => !isVerbVariable(name))
    .map((name) => `${name} is no variable of fovea: most likely misspelt`);

/** File, environment and defaults, for a verb that changes nothing of them. */
export function readConfig({ env }: World, given: string | undefined): Config {
  const file = configFile(given);
  return loadConfig({ env, ...(file === undefined ? {} : { file }) });
}

/** All that a start would read, and as it would read it. */
function readSettings({ env }: World, given: string | undefined): Settings {
  const file = configFile(given);
  return loadSettings({ env, starting: true, ...(file === undefined ? {} : { file }) });
}

async function check(world: World, { config }: Options): Promise<void> {
  const { config: read, rejected } = readSettings(world, config);
  const warnings = [...strayVariables(world.env), ...rejected.map(rejectionText), ...sinkNotes(read.sinks)];
  await printLines(
    world.err,
    warnings.map((warning) => `fovea: ${harmless(warning)}`),
  );
  const file = configFile(config);
  const source = { env: world.env, ...(file === undefined ? {} : { file }) };
  const problems = [...findApiProblems(source), ...findSinkProblems(source)];
  if (problems.length > 0) throw new ConfigError(problems);
  await printLines(world.out, [
    file === undefined ? "no file; defaults and environment are right" : `${file}: right`,
  ]);
}

/** JSON has no infinite number: no limit is `any`, as in the file. */
const printedJson = (config: Config): unknown =>
  JSON.parse(
    JSON.stringify({ ...config, sinks: config.sinks.map(shownSink) }, (_, value: unknown) =>
      value === Number.POSITIVE_INFINITY ? "any" : value,
    ),
  );

async function print(world: World, { config, output }: Options): Promise<void> {
  const { config: inForce } = readSettings(world, config);
  if (output === "json") await printJson(world.out, printedJson(inForce));
  else await world.out.write(printConfig(inForce));
}

export function addConfig(program: Command, world: World): void {
  const verb = program.command("config").description("check or print the configuration");
  verb
    .command("check")
    .description("read file and environment; exit 0 when all is right")
    .addOption(configFileFlag())
    .action((options: Options) => check(world, options));
  verb
    .command("print")
    .description("print every key with the value in force, as YAML that may be given again")
    .addOption(configFileFlag())
    .addOption(outputFlag("yaml or json", ["yaml", "json"]))
    .action((options: Options) => print(world, options));
}
