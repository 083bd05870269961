// The verbs: what they print, what they refuse, and with which exit code.

import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiApp } from "../src/api/app.ts";
import { openToken } from "../src/api/auth.ts";
import { openServer } from "../src/api/server.ts";
import { ClosedOutput, streamOutput } from "../src/cli/output.ts";
import { runProgram } from "../src/cli/program.ts";
import type { Backend } from "../src/snapshot.ts";
import { apiParts, now, storeOfRows, streamsOf } from "./api.parts.ts";
import { runFovea, testWorld } from "./cli.world.ts";

const directory = mkdtempSync(join(tmpdir(), "fovea-cli-"));
const store = storeOfRows();
afterAll(() => {
  store.close();
  rmSync(directory, { recursive: true });
});

function file(name: string, content: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

test.each([
  [["version"], 0, /^fovea 1\.2\.3 \(abc1234\), linux x64, Bun 1\.4\.5\n$/],
  [["--version"], 0, /^1\.2\.3\n$/],
  [["--help"], 0, /run .*check .*flows .*config .*version/s],
  [[], 0, /Usage: fovea/],
  [["help", "flows"], 0, /--follow .*FOVEA_QUERY_FOLLOW/s],
])("%p prints and exits %p", async (args, code, out) => {
  const ran = await runFovea(args);
  expect(ran.out).toMatch(out);
  expect(ran).toMatchObject({ code, err: "" });
});

test.each([
  [["flos"], /unknown command 'flos'; did you mean flows\?/],
  [["flows", "--adress", "x"], /unknown option '--adress'; did you mean --address\?/],
  [["run", "--lisen", "x"], /did you mean --listen\?/],
  [["quite-something-else"], /unknown command .*; see fovea --help/],
  [["flows", "extra"], /too many arguments.*; see fovea --help/],
  [["version", "-o", "xml"], /'xml' is invalid\. It is one of text, json/],
  [["flows", "--limit", "0"], /--limit "0" is no whole number from 1 to 1000000/],
  [["flows", "--limit"], /argument missing/],
  [["flows", "--follow", "--order", "newest"], /--follow shows the oldest first/],
  [["flows", "--server", "http://"], /--server "http:\/\/" is no URL/],
  [["run", "--listen", "nowhere"], /command line: listen "nowhere" is not HOST:PORT/],
  [["run", "--listen", "0.0.0.0:0"], /api\.tokenFile/],
])("%p is a wrong call: one line, exit code 2", async (args, err) => {
  const ran = await runFovea(args);
  expect(ran.err).toMatch(err);
  expect(ran.err).toMatch(/^fovea: [^\n]*\n$/);
  expect(ran).toMatchObject({ code: 2, out: "" });
});

test("version as JSON", async () => {
  const { out } = await runFovea(["version", "-o", "json"]);
  expect(JSON.parse(out)).toEqual({
    version: "1.2.3",
    commit: "abc1234",
    bun: "1.4.5",
    os: "linux",
    arch: "x64",
  });
});

test("a variable stands in for a flag, the flag wins, an empty one is none", async () => {
  const version = async (args: readonly string[], env: Record<string, string>) =>
    (await runFovea(["version", ...args], { env })).out;
  expect(await version([], { FOVEA_OUTPUT: "json" })).toStartWith("{");
  expect(await version(["-o", "text"], { FOVEA_OUTPUT: "json" })).toStartWith("fovea");
  expect(await version([], { FOVEA_OUTPUT: "" })).toStartWith("fovea");
  const wrong = await runFovea(["version"], { env: { FOVEA_OUTPUT: "xml" } });
  expect(wrong).toMatchObject({ code: 2 });
  expect(wrong.err).toMatch(/^fovea: FOVEA_OUTPUT "xml" is wrong\. It is one of text, json\.\n$/);
});

test.each([
  [["version"], "csv"],
  [["check"], "csv"],
  [["check"], "yaml"],
  [["version"], "table"],
  [["config", "print"], "csv"],
  [["config", "print"], "text"],
  [["flows"], "yaml"],
  [["flows"], "text"],
])("%p prints as ever where FOVEA_OUTPUT is %p, a format of other verbs", async (args, format) => {
  await using server = await serve();
  const env = args[0] === "flows" ? { FOVEA_SERVER: server.url } : {};
  const openBackend = backendOf([working]);
  const plain = await runFovea(args, { env, openBackend });
  expect(plain).toMatchObject({ code: 0, err: "" });
  expect(await runFovea(args, { env: { ...env, FOVEA_OUTPUT: format }, openBackend })).toEqual(plain);
  expect(await runFovea([...args, "-o", format], { env, openBackend })).toMatchObject({ code: 2, out: "" });
});

test("config check: right, wrong with file and line, stray variables", async () => {
  const right = file("right.yaml", "tick: 2s\n");
  expect(await runFovea(["config", "check", "-c", right])).toEqual({
    code: 0,
    out: `${right}: right\n`,
    err: "",
  });
  const wrong = file("wrong.yaml", "tick: 2s\nstore:\n  bytesMx: 1GiB\nflows:\n  idle: soon\n");
  const refused = await runFovea(["config", "check", "-c", wrong]);
  expect(refused).toMatchObject({ code: 1, out: "" });
  expect(refused.err).toContain(`fovea: ${wrong}:3: store.bytesMx`);
  expect(refused.err).toContain(`fovea: ${wrong}:5: flows.idle`);
  const env = { FOVEA_TIK: "1s", FOVEA_QUERY_SINCE: "1m", FOVEA_CONFIG: right };
  const stray = await runFovea(["config", "check"], { env });
  expect(stray.code).toBe(0);
  expect(stray.err).toBe("fovea: FOVEA_TIK is no variable of fovea: most likely misspelt\n");
});

test("config print gives what may be given again", async () => {
  const first = await runFovea(["config", "print"], { env: { FOVEA_STORE_BYTES_MAX: "64MiB" } });
  expect(first.out).toContain("bytesMax: 64MiB");
  const again = await runFovea(["config", "print", "-c", file("again.yaml", first.out)]);
  expect(again.out).toBe(first.out);
  const json = await runFovea(["config", "print", "-o", "json"]);
  expect(JSON.parse(json.out)).toMatchObject({ tick: 1000, listen: { host: "127.0.0.1", port: 10_093 } });
});

const backendOf = (collectors: Backend["collectors"]): (() => Promise<Backend>) => {
  return () => Promise.resolve({ collectors, [Symbol.asyncDispose]: () => Promise.resolve() });
};

const working = { name: "sockets", collect: () => ({ attached: ["eth0"] }) };
const limited = { name: "drops", collect: () => ({ limits: ["this kernel gives no drop reasons"] }) };
const broken = {
  name: "flows",
  collect: () => {
    throw new Error("bpf(BPF_PROG_LOAD): CAP_BPF is missing: no totals, flows or DNS\u001b[2J");
  },
};

test("check: all collectors work, some with limits", async () => {
  const { code, out } = await runFovea(["check"], { openBackend: backendOf([working, limited]) });
  expect(code).toBe(0);
  expect(out).toMatch(/^sockets +yes$/m);
  expect(out).toMatch(/^drops +partly +this kernel gives no drop reasons$/m);
  expect(out).toContain("all 2 collectors work\nattached to: eth0\n");
});

test("check: a collector that fails is exit code 1, and told whole within the width", async () => {
  const openBackend = backendOf([working, broken]);
  const terminal = { columns: 60, colours: true };
  const { code, out } = await runFovea(["check"], { openBackend, terminal });
  expect(code).toBe(1);
  expect(out).toContain("\u001b[31mno");
  expect(out).not.toContain("\u001b[2J");
  const plain = Bun.stripANSI(out);
  for (const line of plain.split("\n")) expect(line.length).toBeLessThanOrEqual(60);
  expect(plain.replaceAll(/\s+/g, " ")).toContain("CAP_BPF is missing: no totals, flows or DNS");
  const json = await runFovea(["check", "-o", "json"], { openBackend });
  expect(json.code).toBe(1);
  expect(JSON.parse(json.out)).toMatchObject({
    ok: false,
    collectors: [
      { name: "sockets", ok: true, missing: [] },
      { name: "flows", ok: false, missing: [expect.stringContaining("CAP_BPF")] },
    ],
  });
});

test("check: no backend at all is one line and exit code 1", async () => {
  expect(await runFovea(["check"])).toEqual({ code: 1, out: "", err: "fovea: no backend in this test\n" });
});

// --- flows, from a running API ---

const secret = "0123456789abcdef0123456789abcdef";

async function serve(options: { readonly tokenFile?: string; readonly port?: number } = {}) {
  const { tokenFile } = options;
  const access = { loopback: true, mutualTls: false, openMetrics: () => false };
  await using undo = new AsyncDisposableStack();
  const streams = streamsOf(store);
  const app = apiApp(
    apiParts(store, {
      now: () => now,
      streams,
      access: tokenFile === undefined ? access : { ...access, token: openToken(tokenFile) },
    }),
  );
  const server = undo.use(
    await openServer({
      listen: { host: "127.0.0.1", port: options.port ?? 0 },
      address: "127.0.0.1",
      fetch: (request) => app.fetch(request),
      connectionsMax: 10,
      bodyBytesMax: 1024,
    }),
  );
  undo.defer(() => streams[Symbol.dispose]()); // Before the server, which would wait for them.
  const parts = undo.move();
  return { url: server.url, streams, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

test("flows as a table", async () => {
  await using server = await serve();
  const { code, out, err } = await runFovea(["flows", "--server", server.url]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  const lines = out.trimEnd().split("\n");
  expect(lines).toHaveLength(6);
  expect(lines[0]).toMatch(/^TIME +DIRECTION +PROTO +SOURCE +SPORT +DESTINATION +DPORT +VERDICT/);
  expect(lines[1]).toMatch(/icmp .* 8\/0 /);
  expect(lines[2]).toMatch(/tcp +198\.51\.100\.9 +40000 +10\.0\.0\.1 +23 +NO_SOCKET +3 +180 +FSPA/);
});

test("flows fit a narrow terminal, drops in colour", async () => {
  await using server = await serve();
  const terminal = { columns: 60, colours: true };
  const { out } = await runFovea(["flows", "--server", server.url], { terminal });
  expect(out).toContain("\u001b[31mNO_SOCKET");
  for (const line of Bun.stripANSI(out).split("\n")) expect(line.length).toBeLessThanOrEqual(60);
});

test.each([
  [["--verdict", "dropped"], [4]],
  [["--address", "192.0.2.1", "--direction", "ingress"], [2]],
  [
    ["--address", "198.51.100.9,2001:db8::1"],
    [4, 3],
  ],
  [
    ["--port", "53", "--port", "23"],
    [4, 3],
  ],
  [["--source-port", "443"], [2]],
  [["--protocol", "udp"], [3]],
  [
    ["--since", "10m", "--order", "oldest", "-n", "2"],
    [2, 3],
  ],
  [["--reason", "NOTHING"], []],
])("flows %p are rows %p", async (args, seqs) => {
  await using server = await serve();
  const { out } = await runFovea(["flows", "--server", server.url, "-o", "json", ...args]);
  expect(JSON.parse(out).flows.map(({ seq }: { seq: number }) => seq)).toEqual(seqs);
});

test("flows as CSV: a header, one line a flow, the variables as filter", async () => {
  await using server = await serve();
  const env = { FOVEA_QUERY_VERDICT: "dropped", FOVEA_SERVER: server.url, FOVEA_OUTPUT: "csv" };
  const { out } = await runFovea(["flows"], { env });
  const [header = "", row = "", end] = out.split("\n");
  expect(end).toBe("");
  expect(header).toStartWith("seq,startAt,endAt,direction,verdict,dropReason,protocol,source,sourcePort,");
  expect(row).toStartWith(
    "4,2026-01-31T11:59:58.000Z,2026-01-31T11:59:59.000Z,ingress,dropped,NO_SOCKET,tcp,198.51.100.9,",
  );
});

test("more flows than a page are asked for page by page", async () => {
  await using server = await serve();
  const { out } = await runFovea(["flows", "--server", server.url, "-o", "csv", "-n", "100000"]);
  expect(out.trimEnd().split("\n")).toHaveLength(6);
});

test("what the API refuses is told by the flag, exit code 2", async () => {
  await using server = await serve();
  const ran = await runFovea(["flows", "--server", server.url, "--source-port", "x"]);
  expect(ran).toEqual({ code: 2, out: "", err: 'fovea: --source-port "x" is no port from 0 to 65535\n' });
});

test("flows --follow shows what is there and goes on until it is stopped", async () => {
  await using server = await serve();
  const stop = new AbortController();
  const later = { ...firstRow, source: "203.0.113.200" };
  const sources: string[] = [];
  const out = {
    colours: false,
    write: (text: string) => {
      for (const line of text.trimEnd().split("\n")) if (line !== "") sources.push(JSON.parse(line).source);
      // Appended after the first rows have come.
      if (!sources.includes(later.source) && sources.length === 4)
        store.append({ rows: [later], ledger: { "rows.offered": 1 } });
      server.streams.ticked();
      if (sources.includes(later.source)) stop.abort();
      return Promise.resolve();
    },
  };
  const args = ["flows", "--follow", "--since", "10m", "--server", server.url, "-o", "json"];
  expect(await runProgram(args, testWorld({ out, stop: stop.signal }))).toBe(0);
  expect(sources).toHaveLength(5);
  expect(sources.at(-1)).toBe(later.source);
});

const firstRow = {
  startAt: now - 10,
  endAt: now,
  source: "10.0.0.1",
  destination: "10.0.0.2",
  sourcePort: 1,
  destinationPort: 2,
  protocol: 17,
  direction: "egress",
  verdict: "forwarded",
  packets: 1,
  bytes: 60,
  tcpFlags: 0,
  interface: "eth0",
  evictReason: "idle",
} as const;

test("a token is read from its file; without, and with a wrong one, it is told what to do", async () => {
  const tokenFile = file("token", secret);
  await using server = await serve({ tokenFile });
  const ask = (...args: string[]) => runFovea(["flows", "-o", "json", "--server", server.url, ...args]);
  expect((await ask("--token-file", tokenFile)).code).toBe(0);
  const without = await ask();
  expect(without.code).toBe(1);
  expect(without.err).toMatch(/^fovea: http:\S+ needs a token; name its file with --token-file\n$/);
  const wrong = await ask("--token-file", file("wrong", `${secret}0`));
  expect(wrong.err).toContain("does not accept the token");
  const missing = await ask("--token-file", "/nonexistent");
  expect(missing).toMatchObject({ code: 1, err: expect.stringContaining("/nonexistent") });
});

test("the server and its token come from the configuration", async () => {
  const tokenFile = file("configured", secret);
  await using server = await serve({ tokenFile });
  const config = file(
    "client.yaml",
    `listen: ${new URL(server.url).host}\napi:\n  tokenFile: ${tokenFile}\n`,
  );
  const { code, out } = await runFovea(["flows", "-c", config, "-o", "json"]);
  expect(code).toBe(0);
  expect(JSON.parse(out).flows.length).toBeGreaterThan(0);
});

test("a token never leaves in the clear, nor through a proxy", async () => {
  const tokenFile = file("clear", secret);
  const refused = await runFovea(["flows", "--server", "http://node.example:1", "--token-file", tokenFile]);
  expect(refused).toMatchObject({ code: 2, err: expect.stringContaining("in the clear") });
  const proxied: string[] = [];
  await using proxy = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => {
      proxied.push(request.url);
      return new Response();
    },
  });
  await using server = await serve({ tokenFile });
  const before = process.env["http_proxy"];
  process.env["http_proxy"] = String(proxy.url);
  try {
    const { code } = await runFovea(["flows", "--server", server.url, "--token-file", tokenFile]);
    expect(code).toBe(0);
  } finally {
    if (before === undefined) delete process.env["http_proxy"];
    else process.env["http_proxy"] = before;
  }
  expect(proxied).toEqual([]);
});

test("nobody there, somebody else there", async () => {
  const nobody = await runFovea(["flows", "--server", "http://127.0.0.1:1"]);
  expect(nobody).toMatchObject({ code: 1, out: "" });
  expect(nobody.err).toMatch(
    /^fovea: http:\/\/127\.0\.0\.1:1 does not answer: is fovea running there\? [^\n]*\n$/,
  );
  await using other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("<html>") });
  const ran = await runFovea(["flows", "--server", String(other.url)]);
  expect(ran).toMatchObject({ code: 1, err: expect.stringContaining("is it another program?") });
});

test("colours only on a terminal, and never with NO_COLOR", () => {
  const stream = (isTTY: boolean) => ({ isTTY, columns: 90, write: () => true, on: () => undefined });
  expect(streamOutput(stream(true), {})).toMatchObject({ colours: true, columns: 90 });
  expect(streamOutput(stream(true), { NO_COLOR: "1" })).toMatchObject({ colours: false, columns: 90 });
  expect(streamOutput(stream(true), { TERM: "dumb" }).colours).toBe(false);
  expect(streamOutput(stream(true), { NO_COLOR: "" }).colours).toBe(true);
  const piped = streamOutput(stream(false), {});
  expect(piped.colours).toBe(false);
  expect(piped.columns).toBeUndefined();
});

test("a reader that has gone is no failure", async () => {
  const closed = new ClosedOutput("EPIPE");
  const gone = { write: () => Promise.reject(closed), colours: false };
  expect(await runProgram(["version"], testWorld({ out: gone }))).toBe(0);
});
