// A world for verbs: what they write is kept, nothing outside is touched.

import type { Output } from "../src/cli/output.ts";
import { runProgram } from "../src/cli/program.ts";
import type { World } from "../src/cli/world.ts";

export type Kept = Output & { text(): string };

export function keptOutput(terminal: { readonly columns?: number; readonly colours?: boolean } = {}): Kept {
  let kept = "";
  const { columns, colours = false } = terminal;
  return {
    write: (text) => {
      kept += text;
      return Promise.resolve();
    },
    text: () => kept,
    colours,
    ...(columns === undefined ? {} : { columns }),
  };
}

const silent = () => undefined;

export function testWorld(changed: Partial<World> = {}): World {
  return {
    out: keptOutput(),
    err: keptOutput(),
    env: {},
    build: { version: "1.2.3", commit: "abc1234", bun: "1.4.5", os: "linux", arch: "x64" },
    stop: new AbortController().signal,
    openBackend: () => {
      throw new Error("no backend in this test");
    },
    loadAddonLibraries: () => Promise.resolve(),
    notifier: { ready: silent, reloading: silent, stopping: silent, status: silent, watchdog: silent },
    ...changed,
  };
}

/** Runs a verb; gives what it wrote and its exit code. */
export async function runFovea(
  args: readonly string[],
  changed: Partial<Omit<World, "out" | "err">> & {
    readonly terminal?: Parameters<typeof keptOutput>[0];
  } = {},
): Promise<{ code: number; out: string; err: string }> {
  const { terminal, ...rest } = changed;
  const [out, err] = [keptOutput(terminal), keptOutput(terminal)];
  const code = await runProgram(args, testWorld({ ...rest, out, err }));
  return { code, out: out.text(), err: err.text() };
}
