// A run of fovea as a process of its own, on a recording, for tests.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { statusSchema } from "../src/api/schemas.ts";
import { recordTick } from "../src/replay.ts";
import { flow, now } from "./api.parts.ts";

export const main = join(import.meta.dir, "../src/main.ts");

export type Directory = AsyncDisposable & {
  readonly path: string;
  file(name: string, content: string): string;
};

export function temporaryDirectory(): Directory {
  const path = mkdtempSync(join(tmpdir(), "fovea-run-"));
  return {
    path,
    file: (name, content) => {
      const full = join(path, name);
      writeFileSync(full, content, { mode: 0o600 });
      return full;
    },
    [Symbol.asyncDispose]: async () => rmSync(path, { recursive: true, force: true }),
  };
}

export const ticks = 3;

/** Each tick ten packets and two flows more. */
export function recording(directory: Directory): string {
  const lines = Array.from({ length: ticks }, (_, tick) =>
    recordTick({
      startedAt: now,
      at: now + tick * 100,
      snapshots: {
        flows: {
          totals: {
            uplinks: ["eth0"],
            forward: { ingress: { packets: 10 * (tick + 1), bytes: 900 }, egress: { packets: 1, bytes: 60 } },
            tcpFlags: [],
          },
          flows: [flow, { ...flow, protocol: 17 }],
          packets: { seen: 10 * (tick + 1), aggregated: 10 * (tick + 1), duplicate: 0, untracked: [] },
          attached: ["eth0"],
        },
      },
    }),
  );
  return directory.file("recording.ndjson", lines.join(""));
}

function spawn(args: readonly string[], env: Record<string, string> = {}, by: readonly string[] = []) {
  const child = Bun.spawn([...by, process.execPath, main, ...args], {
    env: { PATH: process.env["PATH"] ?? "", FOVEA_TICK: "100ms", ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  return child;
}

/** What a process that must end by itself wrote. */
export async function ended(args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(args, env);
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { out, err, code };
}

type Line = {
  readonly message: string;
  readonly url?: string;
  readonly problems?: string;
  readonly reason?: string;
};

/** A running appliance; its log is read as it comes. */
export function start(args: readonly string[], env: Record<string, string> = {}, by: readonly string[] = []) {
  const child = spawn(["run", "--listen", "127.0.0.1:0", ...args], env, by);
  const lines: Line[] = [];
  const reading = (async () => {
    let rest = "";
    for await (const bytes of child.stderr) {
      const parts = (rest + Buffer.from(bytes).toString()).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) lines.push(part.startsWith("{") ? JSON.parse(part) : { message: part });
    }
  })();
  const until = async <T>(find: () => T | undefined | Promise<T | undefined>): Promise<T> => {
    for (;;) {
      const found = await find();
      if (found !== undefined) return found;
      if (child.exitCode !== null) throw new Error(`it ended: ${JSON.stringify(lines)}`);
      await Bun.sleep(10);
    }
  };
  const logged = (text: string) => until(() => lines.findLast(({ message }) => message.includes(text)));
  return {
    lines,
    logged,
    signal: (name: "SIGHUP") => child.kill(name),
    /** Waits for two more ticks. */
    ticked: async (url: string) => {
      const { ticks: before } = await statusOf(url);
      await until(async () => ((await statusOf(url)).ticks >= before + 2 ? true : undefined));
    },
    url: async () => (await logged("started")).url ?? "",
    stop: async (signal: "SIGTERM" | "SIGINT" = "SIGTERM") => {
      child.kill(signal);
      const code = await child.exited;
      await reading;
      return { code };
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

export const statusOf = async (url: string) =>
  statusSchema.parse(await (await fetch(`${url}/api/v1/status`)).json());

export async function played(url: string) {
  for (;;) {
    const status = await statusOf(url);
    if (status.ticks >= ticks) return status;
    await Bun.sleep(20);
  }
}
