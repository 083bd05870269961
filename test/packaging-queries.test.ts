// The query worker inside a compiled binary: found beside the main entry point, with the addon of the main thread.

import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "fovea-worker-"));
afterAll(() => rmSync(root, { recursive: true }));

const source = (file: string): string => JSON.stringify(join(import.meta.dir, "../src/store", file));

const main = `
import { openQueries } from ${source("queries.ts")};
import { addonDirs, unpackAddon } from ${source("sqlite.ts")};
import { openStore } from ${source("store.ts")};
const dir = process.argv[2];
const nativeBinding = await unpackAddon({ dirs: addonDirs({ dataDir: dir }) });
const store = openStore({ dir, bytesMax: 1e7, ageMaxMs: 1e9, nativeBinding });
const at = Date.now();
store.append({ rows: [{
  startAt: at, endAt: at, source: "10.0.0.1", destination: "2001:db8::1", sourcePort: 1, destinationPort: 2,
  protocol: 6, direction: "egress", verdict: "forwarded", packets: 3, bytes: 4, tcpFlags: 2, interface: "eth0",
  evictReason: "fin",
}] });
const queries = openQueries({ store, nativeBinding, idleMs: 1 });
const first = await queries.flows({});
while (queries.facts().running) await Bun.sleep(1);
const second = await queries.flows({ sources: ["10.0.0.0/24"] });
await queries[Symbol.asyncDispose]();
store.close();
console.log(JSON.stringify({ first: first.flows, same: Bun.deepEquals(first.flows, second.flows), facts: queries.facts() }));
`;

/** Entry points that lie to each other as in the sources, built as packaging/build.ts does. */
function build(): string {
  mkdirSync(join(root, "src/store"), { recursive: true });
  writeFileSync(join(root, "src/main.ts"), main);
  writeFileSync(join(root, "src/store/query-worker.ts"), `import ${source("query-worker.ts")};`);
  const binary = join(root, "binary");
  const { stderr, exitCode } = Bun.spawnSync(
    [
      ...[process.execPath, "build", "--compile", "--root=.", "src/main.ts", "src/store/query-worker.ts"],
      ...["--outfile", binary, "--bytecode", "--format=esm", "--compile-exec-argv=--smol"],
      ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
    ],
    { cwd: root },
  );
  if (exitCode !== 0) throw new Error(`bun build: ${stderr}`);
  return binary;
}

test("answers, ends when idle, and answers again", () => {
  const binary = build();
  const temporary = join(root, "tmp");
  mkdirSync(temporary);
  const { stdout, stderr, exitCode } = Bun.spawnSync([binary, join(root, "data")], {
    cwd: temporary,
    env: { TMPDIR: temporary, BUN_TMPDIR: temporary },
  });
  expect({ errors: stderr.toString(), exitCode }).toEqual({ errors: "", exitCode: 0 });
  expect(JSON.parse(stdout.toString())).toMatchObject({
    first: [{ seq: 1, source: "10.0.0.1", interface: "eth0" }],
    same: true,
    facts: { started: 2, answered: 2, failed: 0, crashed: 0, running: false },
  });
  expect(readdirSync(temporary)).toEqual([]);
  expect(readdirSync(join(root, "data")).toSorted()).toEqual(["fovea.db", "fovea.lock", "native"]);
});
