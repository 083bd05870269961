// fovea flows: what it says of what is missing, and how --follow outlives its server, its reader and its user.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiApp } from "../src/api/app.ts";
import { openServer } from "../src/api/server.ts";
import { missingOf, missingText } from "../src/cli/missing.ts";
import { runProgram } from "../src/cli/program.ts";
import { openStore, type Store } from "../src/store/store.ts";
import { apiParts, flow, now, streamsOf } from "./api.parts.ts";
import { keptOutput, runFovea, testWorld } from "./cli.world.ts";

const cleanup = new DisposableStack();
afterAll(() => cleanup.dispose());

function emptyStore(clock: () => number = () => now): Store {
  const dir = mkdtempSync(join(tmpdir(), "fovea-follow-"));
  const store = openStore({ dir, bytesMax: 2 ** 22, ageMaxMs: 86_400_000, now: clock });
  cleanup.defer(() => {
    store.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return store;
}

async function serve(store: Store, port = 0) {
  await using undo = new AsyncDisposableStack();
  const streams = streamsOf(store);
  const app = apiApp(apiParts(store, { streams }));
  const server = undo.use(
    await openServer({
      listen: { host: "127.0.0.1", port },
      address: "127.0.0.1",
      fetch: (request) => app.fetch(request),
      connectionsMax: 20,
      bodyBytesMax: 1024,
    }),
  );
  undo.use(streams);
  const parts = undo.move();
  return { url: server.url, streams, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

const append = (store: Store, count: number, thrown: Record<string, number> = {}) =>
  void store.append({
    rows: Array.from({ length: count }, () => flow),
    ledger: {
      "rows.offered": count + Object.values(thrown).reduce((sum, one) => sum + one, 0),
      ...thrown,
    },
  });

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}

const seqsIn = (text: string): number[] =>
  text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line).seq as number]));

/** A `flows --follow` that goes on beside the test. */
function following(url: string, ...args: readonly string[]) {
  const [out, err, stop] = [keptOutput(), keptOutput(), new AbortController()];
  const world = testWorld({ out, err, stop: stop.signal });
  const code = runProgram(["flows", "--follow", "--server", url, "-o", "json", ...args], world);
  return { seqs: () => seqsIn(out.text()), err: err.text, stop: () => stop.abort(), code };
}

test.each([
  [{}, undefined],
  [{ "packets.untracked.flow_not_ip": 9 }, undefined],
  [{ "rows.throttled.window": 1 }, "1 row of this time was throttled"],
  [
    { "rows.throttled.window": 12_000, "rows.throttled.reserve": 345 },
    "12,345 rows of this time were throttled",
  ],
  [
    { "rows.throttled.window": 12_345, "rows.evicted": 20 },
    "12,345 rows of this time were throttled, 20 evicted",
  ],
  [
    {
      "rows.lost.disk_full": 2,
      "rows.filtered.excluded": 4,
      "rows.invalid.time": 3,
      "packets.untracked.spill_full": 1,
    },
    "2 rows of this time were lost, 3 invalid, 4 filtered, 1 packet is in no flow",
  ],
  [{ "packets.untracked.spill_full": 2 }, "2 packets of this time are in no flow"],
])("missing of %p is %p", (lost, text) => {
  expect(missingText(lost, " of this time")).toBe(text as string);
});

test("only rows are in the totals elsewhere", () => {
  expect(missingOf({ lost: { "rows.evicted": 2 } })).toEqual([
    "2 rows of this time were evicted: fovea top has the totals",
  ]);
  expect(missingOf({ lost: { "packets.untracked.spill_full": 2 } })).toEqual([
    "2 packets of this time are in no flow",
  ]);
  expect(missingOf({ lost: {} })).toEqual([]);
});

test("flows say on stderr what is missing of the time that was asked for", async () => {
  const store = emptyStore();
  append(store, 1, { "rows.throttled.window": 1234 });
  await using server = await serve(store);
  const asked = await runFovea(["flows", "--since", "30s", "--server", server.url]);
  expect(asked.err).toMatch(/^fovea: 1,234 rows of this time were throttled.*: fovea top has the totals\n$/);
  const json = await runFovea(["flows", "--since", "30s", "-o", "json", "--server", server.url]);
  expect(JSON.parse(json.out).lost).toEqual({ "rows.throttled.window": 1234 });
});

test("without a time, they say what is missing from the oldest flow on that is shown", async () => {
  let clock = now - 3_600_000;
  const store = emptyStore(() => clock);
  append(store, 0, { "rows.throttled.window": 7 });
  clock = now;
  append(store, 1);
  await using server = await serve(store);
  expect(await runFovea(["flows", "--server", server.url])).toMatchObject({ code: 0, err: "" });
  const nothing = await runFovea(["flows", "--port", "9", "--server", server.url]);
  expect(nothing.out).toBe("no flows\n");
  expect(nothing.err).toContain("7 rows of this time were throttled");
});

test("what went wrong with a question of DNS stands beside the verdict", async () => {
  const store = emptyStore();
  store.append({ rows: [{ ...flow, dnsError: "NXDOMAIN", node: "edge-7" }], ledger: { "rows.offered": 1 } });
  await using server = await serve(store);
  const { out } = await runFovea(["flows", "--server", server.url]);
  expect(out).toMatch(/ forwarded NXDOMAIN +10 /);
  expect(out).toMatch(/ NODE\n.* edge-7\n$/);
  const csv = await runFovea(["flows", "--server", server.url, "-o", "csv"]);
  expect(csv.out).toMatch(/,NXDOMAIN,fin,edge-7\n$/);
});

test("--follow gives each row once, over a restart of the server, and tells of all that was thrown away", async () => {
  const store = emptyStore();
  append(store, 2);
  let server = await serve(store);
  const { url } = server;
  const port = Number(new URL(url).port);
  const ran = following(url, "--since", "10m");
  await until(() => ran.seqs().length === 2);
  append(store, 1, { "rows.throttled.window": 5 });
  server.streams.ticked();
  await until(() => ran.seqs().length === 3);
  await server[Symbol.asyncDispose]();
  await until(() => ran.err().includes("trying again"));
  append(store, 2, { "rows.throttled.window": 11 }); // While nobody listens.
  server = await serve(store, port);
  await until(() => ran.seqs().length === 5);
  append(store, 1);
  server.streams.ticked();
  await until(() => ran.seqs().length === 6);
  ran.stop();
  expect(await ran.code).toBe(0);
  await server[Symbol.asyncDispose]();
  expect(ran.seqs()).toEqual([1, 2, 3, 4, 5, 6]);
  const told = [...ran.err().matchAll(/(\d+) rows were throttled meanwhile/g)].map(([, rows]) =>
    Number(rows),
  );
  expect(told.reduce((sum, rows) => sum + rows, 0)).toBe(16);
  expect(ran.err()).toMatch(/does not answer: .*; trying again\nfovea: it answers again\n/);
});

test("--follow of a store that was replaced says so, and goes on with new rows", async () => {
  const [before, after] = [emptyStore(), emptyStore()];
  append(before, 1);
  append(after, 3);
  let server = await serve(before);
  const port = Number(new URL(server.url).port);
  const ran = following(server.url, "--since", "10m");
  await until(() => ran.seqs().length === 1);
  await server[Symbol.asyncDispose]();
  server = await serve(after, port);
  await until(() => ran.err().includes("the store was replaced") && server.streams.facts().open === 1);
  append(after, 1);
  server.streams.ticked();
  await until(() => ran.seqs().length === 2);
  ran.stop();
  await ran.code;
  await server[Symbol.asyncDispose]();
  expect(ran.seqs()).toEqual([1, 4]);
});

test("--follow with a limit ends by itself", async () => {
  const store = emptyStore();
  append(store, 5);
  await using server = await serve(store);
  const args = ["flows", "--follow", "--since", "2h", "-n", "3", "-o", "json", "--server", server.url];
  const { code, out } = await runFovea(args);
  expect(code).toBe(0);
  expect(seqsIn(out)).toEqual([1, 2, 3]);
});

test("--follow that cannot begin is a failure; so is one that is refused later", async () => {
  const nobody = await runFovea(["flows", "--follow", "--server", "http://127.0.0.1:1"]);
  expect(nobody).toMatchObject({ code: 1, err: expect.stringContaining("is fovea running there?") });
  expect(await runFovea(["flows", "-f", "--to", "now"])).toMatchObject({
    code: 2,
    err: expect.stringContaining("--to"),
  });
  await using server = await serve(emptyStore());
  const wrong = await runFovea(["flows", "-f", "--port", "x", "--server", server.url]);
  expect(wrong).toEqual({ code: 2, out: "", err: 'fovea: --port "x" is no port from 0 to 65535\n' });
});

test("a reader that goes ends --follow at once, though there is nothing to write", async () => {
  await using server = await serve(emptyStore());
  const main = join(import.meta.dir, "../src/main.ts");
  const follow = `'${process.execPath}' '${main}' flows --follow -o json --server ${server.url}`;
  const shell = Bun.spawn(["sh", "-c", `${follow} | true; echo over`], { stdout: "pipe", stderr: "pipe" });
  expect(await new Response(shell.stdout).text()).toBe("over\n");
  expect(await new Response(shell.stderr).text()).toBe("");
});
