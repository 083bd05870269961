// The one session that pktmon has on a machine: started where none runs, and stopped only while it is still ours.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { decodeOutput, firstLine, type SpawnAnswer, type Spawner } from "./spawn.ts";

/** Why there are no counters: normal, and no failure. */
export class NoSessionError extends Error {}

export type PktmonSession = {
  /** Makes sure that a session of ours runs. `fresh`: its counters have nothing to do with those read before. */
  ensure(signal: AbortSignal): Promise<{ readonly fresh: boolean }>;
  counters(signal: AbortSignal): Promise<Uint8Array>;
  /** Stops what was started here, unless somebody else's session has come in its place. What throws leaves the marker. */
  stop(): Promise<void>;
};

const file = "pktmon.exe";

/** ERROR_INVALID_PARAMETER: an option that this version does not know. */
const badArgument = 87;

/** Counters alone: no packet is logged, and there is no file. Versions that count no drops alone count all. */
const startings = [
  ["start", "--capture", "--counters-only", "--type", "drop"],
  ["start", "--capture", "--counters-only"],
] as const;

const readings = [
  ["counters", "--type", "drop", "--json"],
  ["counters", "--json"],
] as const;

const saidBy = ({ output, errors }: SpawnAnswer): string => firstLine(errors) || firstLine(output);

/** The lines that say something, without numbers, which may change from one call to the next. */
const linesOf = ({ output }: SpawnAnswer): readonly string[] =>
  decodeOutput(output)
    .split(/\r?\n/)
    .map((line) => line.replace(/\d+/g, "0").trim())
    .filter((line) => line !== "");

/**
 * The text is in the system's language. Where nothing runs it is one line; of a session it tells counters, components and
 * filters. A start beside a running session is refused, should this be wrong.
 */
const isIdle = (lines: readonly string[]): boolean =>
  lines.some((line) => /\bnot running\b/i.test(line)) ||
  (lines.length <= 1 && !lines.some((line) => /\bis running\b/i.test(line)));

export type PktmonSessionOptions = {
  readonly spawner: Spawner;
  readonly timeoutMs: number;
  /** Aborts when nothing may take any longer, not even what is never broken off otherwise. */
  readonly over: AbortSignal;
  /** A file that remembers a session of ours when this process is killed; without it, the next one takes it for another's. */
  readonly marker?: string | undefined;
};

/** What the status says while the session is ours; undefined while there is none. */
function createMark(path: string | undefined) {
  let ours: string | undefined;
  return {
    ours: () => ours,
    set(status: string): void {
      ours = status;
      if (path !== undefined) writeFileSync(path, status);
    },
    clear(): void {
      ours = undefined;
      if (path !== undefined) rmSync(path, { force: true });
    },
    /** Takes a session that an earlier process of ours left behind. */
    adopt(status: string): boolean {
      if (path === undefined) return false;
      try {
        if (readFileSync(path, "utf8") !== status) return false;
      } catch {
        return false; // There is none.
      }
      ours = status;
      return true;
    },
  };
}

export function createPktmonSession(options: PktmonSessionOptions): PktmonSession {
  const { spawner, timeoutMs, over, marker } = options;
  const mark = createMark(marker);

  const run = (list: readonly string[], signal = over): Promise<SpawnAnswer> =>
    spawner.run({ file, arguments: list, timeoutMs, signal });
  const must = async (list: readonly string[], signal = over): Promise<SpawnAnswer> => {
    const answer = await run(list, signal);
    if (answer.exitCode === 0) return answer;
    throw new Error(`${file} ${list.join(" ")} ended with ${answer.exitCode}: ${saidBy(answer)}`);
  };
  /** An answer without a word is none: it must pass neither for no session nor for somebody else's. */
  const status = async (signal = over): Promise<readonly string[]> => {
    const lines = linesOf(await must(["status"], signal));
    if (lines.length === 0) throw new Error(`${file} status printed nothing`);
    return lines;
  };
  /** The first of the commands whose options this version knows. */
  const firstKnown = async (
    commands: readonly (readonly string[])[],
    signal = over,
  ): Promise<SpawnAnswer> => {
    for (const list of commands) {
      const answer = await run(list, signal);
      if (answer.exitCode !== badArgument) return answer;
    }
    throw new NoSessionError(`This version of pktmon does not know ${commands[0]?.slice(1).join(" ")}.`);
  };
  /** Not to be broken off before it is over: a session whose start nobody saw would stay behind. */
  const start = async (idle: string): Promise<void> => {
    const answer = await firstKnown(startings);
    if (answer.exitCode !== 0)
      throw new NoSessionError(`pktmon does not start a session (${answer.exitCode}): ${saidBy(answer)}`);
    try {
      const running = (await status()).join("\n");
      if (running === idle) throw new Error("pktmon started a session that does not run");
      mark.set(running);
    } catch (error) {
      await run(["stop"]); // It cannot be known again.
      throw error;
    }
  };
  return {
    async ensure(signal) {
      const lines = await status(signal);
      const now = lines.join("\n");
      if (mark.ours() === now) return { fresh: false };
      if (mark.ours() === undefined && mark.adopt(now)) return { fresh: true };
      mark.clear();
      if (!isIdle(lines))
        throw new NoSessionError(
          "Somebody else's session of pktmon runs: drops are counted after it has ended (pktmon stop).",
        );
      await start(now);
      return { fresh: true };
    },
    async counters(signal) {
      const answer = await firstKnown(readings, signal);
      if (answer.exitCode === 0) return answer.output;
      throw new Error(`${file} counters --json ended with ${answer.exitCode}: ${saidBy(answer)}`);
    },
    async stop() {
      if (mark.ours() === undefined) return;
      const lines = await status();
      if (lines.join("\n") === mark.ours()) await must(["stop"]);
      mark.clear();
    },
  };
}
