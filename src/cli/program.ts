// The command line: its verbs, its exit codes, and one clear line for whatever goes wrong.

import { Command, CommanderError } from "commander";
import { ConfigError } from "../config.ts";
import { errorText } from "../log.ts";
import { addCheck } from "./check.ts";
import { addConfig } from "./config.ts";
import { addExport } from "./export.ts";
import { readTwins } from "./flags.ts";
import { addFlows } from "./flows.ts";
import { addImport } from "./import.ts";
import { ClosedOutput } from "./output.ts";
import { addRun } from "./run.ts";
import { addService } from "./service.ts";
import { addSinks } from "./sinks.ts";
import { harmless } from "./terminal.ts";
import { addTop } from "./top.ts";
import { addVersion } from "./version.ts";
import { UsageError, type World } from "./world.ts";

export const exitCodes = { ok: 0, failed: 1, usage: 2 } as const;

/** Texts that commander wants to print at once, kept until they can be awaited. */
type Pending = { out: string; err: string };

function createProgram(world: World, pending: Pending, finish: (code: number) => void): Command {
  const program = new Command("fovea")
    .description("Network observability of one node: eBPF to SQLite to /metrics, in one binary.")
    .version(world.build.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [verb]", "print the help of a verb")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        pending.out += text;
      },
      writeErr: (text) => {
        pending.err += text;
      },
      outputError: (text, write) => write(oneLine(text)),
      getOutHelpWidth: () => world.out.columns ?? 100,
      getErrHelpWidth: () => world.err.columns ?? 100,
      getOutHasColors: () => world.out.colours,
      getErrHasColors: () => world.err.colours,
    });
  program.hook("preAction", (_, verb) => readTwins(verb, world.env));
  for (const add of [
    addRun,
    addCheck,
    addFlows,
    addTop,
    addSinks,
    addExport,
    addImport,
    addConfig,
    addService,
    addVersion,
  ])
    add(program, world, finish);
  return program;
}

/** commander puts its suggestion on a second line; without one, the help is what helps. */
function oneLine(text: string): string {
  const line = text.trim().replace(/^error: /, "fovea: ");
  const suggested = line.replace(/\n\(Did you mean (.*)\?\)$/s, "; did you mean $1?");
  return `${suggested === line ? `${line.replace(/\.$/, "")}; see fovea --help` : suggested}\n`;
}

const shown = (message: string): string =>
  message
    .split("\n")
    .map((line) => `fovea: ${harmless(line)}\n`)
    .join("");

function codeOf(error: unknown): number {
  if (error instanceof UsageError) return exitCodes.usage;
  const wrongFlag =
    error instanceof ConfigError && error.problems.every(({ file }) => file === "command line");
  return wrongFlag ? exitCodes.usage : exitCodes.failed;
}

/** What ended the verb, told on stderr; its exit code. */
async function told(error: unknown, world: World, pending: Pending): Promise<number> {
  if (error instanceof ClosedOutput) return exitCodes.ok;
  if (world.stop.aborted && error === world.stop.reason) return exitCodes.failed; // Interrupted: known to who did it.
  if (!(error instanceof CommanderError)) {
    await world.err.write(shown(errorText(error)));
    return codeOf(error);
  }
  await world.out.write(pending.out);
  await world.err.write(pending.err);
  return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
}

/** Runs one verb; `args` are those after the name of the program. Never throws. */
export async function runProgram(args: readonly string[], world: World): Promise<number> {
  const pending: Pending = { out: "", err: "" };
  let code: number = exitCodes.ok;
  const program = createProgram(world, pending, (given) => {
    code = given;
  });
  try {
    await program.parseAsync(args.length === 0 ? ["--help"] : [...args], { from: "user" });
    return code;
  } catch (error) {
    // stderr may be closed as well; then nobody is left to tell.
    return await told(error, world, pending).catch(() => exitCodes.failed);
  }
}
