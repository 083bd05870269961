// fovea sinks: the table, and what an operator may do from a shell.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiApp } from "../src/api/app.ts";
import { openToken } from "../src/api/auth.ts";
import { openServer } from "../src/api/server.ts";
import { UnknownSinkError } from "../src/forward/errors.ts";
import type { ForwardFacts } from "../src/forward/facts.ts";
import { apiParts, now, storeOfRows } from "./api.parts.ts";
import { runFovea } from "./cli.world.ts";
import { fileFacts, forwardFacts } from "./forward.facts.ts";

const dir = mkdtempSync(join(tmpdir(), "fovea-sinks-"));
const tokenFile = join(dir, "token");
writeFileSync(tokenFile, "a-token-of-some-length", { mode: 0o600 });
const store = storeOfRows();
afterAll(() => {
  store.close();
  rmSync(dir, { recursive: true });
});

async function serve(facts: readonly ForwardFacts[] = forwardFacts(now)) {
  const asked: string[] = [];
  const only = (name: string, what: string) => {
    if (name !== "logs") throw new UnknownSinkError(name, ["logs"]);
    asked.push(what);
  };
  const access = { loopback: true, mutualTls: false, openMetrics: () => false, token: openToken(tokenFile) };
  const letter = { at: now, reason: "4xx", code: "400", message: "label too long", records: 1, text: "{}" };
  const sinks = {
    facts: () => facts,
    pause: (name: string) => only(name, "pause"),
    resume: (name: string) => only(name, "resume"),
    discard: (name: string, before: number) => {
      only(name, `drop ${now - before}`);
      return 12_345;
    },
    deadLetters: () => [{ id: 1, sink: "logs", signal: "flows" as const, ...letter }],
    deadLettersEvicted: () => 0,
  };
  const app = apiApp(apiParts(store, { access, sinks }));
  const server = await openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: (request) => app.fetch(request),
    connectionsMax: 20,
    bodyBytesMax: 1024,
  });
  const run = (...args: string[]) =>
    runFovea(["sinks", ...args, "--server", server.url, "--token-file", tokenFile]);
  return { run, asked, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

test("a line a sink and signal, with what is lost and what fails", async () => {
  await using server = await serve();
  const { code, out } = await server.run();
  expect(code).toBe(0);
  const [head, central, logs] = out.split("\n");
  expect(head).toMatch(
    /^NAME +SIGNAL +TYPE +STATE +SENT +PENDING +BYTES +OLDEST +LOST +BUFFER +TARGET +ERROR/,
  );
  expect(central).toMatch(/^central +metrics +remote-write +live +4000 +0 +0 B +250 +https:\/\/metrics/);
  expect(logs).toMatch(
    /^logs +flows +loki +retrying +300 +600 +54\.0 kB +90s +100 +12h +http:.*connection refused/,
  );
  expect((await server.run("list")).out).toBe(out);
  expect(JSON.parse((await server.run("list", "-o", "json")).out).sinks).toHaveLength(2);
});

test("of files it says how many gave way", async () => {
  await using server = await serve([fileFacts(now), ...forwardFacts(now)]);
  const [head, disk, central] = (await server.run()).out.split("\n");
  expect(head).toMatch(/ LOST +REMOVED +BUFFER /);
  expect(disk).toMatch(/^disk +flows +file +live +90 +0 +0 B +0 +7 files +\/media\/usb/);
  expect(central).toMatch(/ 250 +https:\/\/metrics/);
  const { sinks } = JSON.parse((await server.run("list", "-o", "json")).out);
  expect(sinks[0].files).toMatchObject({ removed: 7, removedBytes: 7_340_032, leftovers: 2, damaged: 1 });
});

test("without sinks it says so", async () => {
  await using server = await serve([]);
  expect(await server.run()).toEqual({ code: 0, out: "", err: "fovea: no sinks are configured\n" });
});

test("pause, resume and drop", async () => {
  await using server = await serve();
  expect((await server.run("pause", "logs")).err).toContain("logs is paused");
  expect((await server.run("resume", "logs")).err).toContain("logs goes on");
  const dropped = await server.run("drop", "logs", "--older-than", "2h");
  expect(dropped).toMatchObject({
    code: 0,
    err: expect.stringContaining("12,345 records will not be sent to logs"),
  });
  expect(server.asked).toEqual(["pause", "resume", "drop 7200000"]);
});

test("what is wrong is one clear line", async () => {
  await using server = await serve();
  const unknown = await server.run("pause", "nobody");
  expect(unknown).toMatchObject({
    code: 1,
    err: expect.stringContaining('there is no sink "nobody"; there are logs'),
  });
  const ageless = await server.run("drop", "logs");
  expect(ageless).toMatchObject({ code: 2, err: expect.stringContaining("--older-than is missing") });
  const soon = await server.run("drop", "logs", "--older-than", "soon");
  expect(soon).toMatchObject({ code: 2, err: expect.stringContaining('"soon" is no duration') });
  expect(server.asked).toEqual([]);
});

test("dead letters tell the record and the reason", async () => {
  await using server = await serve();
  const { out } = await server.run("dead-letters", "logs");
  expect(out).toMatch(/2026-01-31T12:00:00\.000Z +logs +flows +4xx +400 +1 +label too long +\{\}/);
});
