// An assembly that is taken apart: what its backend cannot give back is told, and neither a reload nor a stop fails of it.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAppliance } from "../src/cli/run.ts";
import type { Backend } from "../src/snapshot.ts";
import { testWorld } from "./cli.world.ts";

type Line = { readonly level: string; readonly message: string; readonly error?: string };

/** Two parts of it cannot be closed. */
const unclosable = (number: number): Backend => {
  const parts = new AsyncDisposableStack();
  parts.defer(() => Promise.reject(new Error(`link ${number} is still attached`)));
  parts.defer(() => Promise.reject(new Error(`session ${number} still runs`)));
  return {
    collectors: [{ name: "none", collect: () => ({}) }],
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
};

test("a backend that cannot be closed keeps neither a reload nor the stop", async () => {
  const directory = mkdtempSync(join(tmpdir(), "fovea-assembly-"));
  try {
    const config = join(directory, "fovea.yaml");
    const configure = (namesMax: number): void =>
      writeFileSync(config, `listen: 127.0.0.1:0\ntick: 100ms\ndns:\n  namesMax: ${namesMax}\n`, {
        mode: 0o600,
      });
    configure(1000);
    const stop = new AbortController();
    const lines: Line[] = [];
    const opened: Backend[] = [];
    const world = testWorld({
      stop: stop.signal,
      openBackend: () => {
        const backend = unclosable(opened.length + 1);
        opened.push(backend);
        return Promise.resolve(backend);
      },
    });
    let over = false;
    const running = runAppliance(
      world,
      { config, dataDir: join(directory, "data") },
      {
        checkConfigFile: () => undefined,
        configured: () => undefined,
        write: (line) => void lines.push(JSON.parse(line)),
      },
    ).finally(() => {
      over = true;
    });
    const logged = async (message: string): Promise<void> => {
      while (!lines.some((line) => line.message.includes(message))) {
        if (over) throw new Error(`it ended by itself: ${JSON.stringify(lines)}`);
        await Promise.race([Bun.sleep(10), running]);
      }
    };
    await logged("started");
    configure(2000);
    await logged("its parts were opened anew");
    stop.abort();
    await running;
    expect(opened).toHaveLength(2);
    expect(lines.filter(({ message }) => message.startsWith("the backend did not close"))).toEqual(
      [1, 2].map((number) =>
        expect.objectContaining({
          level: "warn",
          error: `session ${number} still runs; link ${number} is still attached`,
        }),
      ),
    );
    expect(lines.at(-1)?.message).toBe("stopped");
  } finally {
    rmSync(directory, { recursive: true });
  }
}, 30_000);
