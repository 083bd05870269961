// fovea export: what stands in the files, what is said of them, and that nothing half is ever found.

import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { openDatabase } from "../src/store/sqlite.ts";
import { runFovea } from "./cli.world.ts";
import {
  append,
  createRig,
  formats,
  names,
  openWide,
  readJson,
  serveStore,
  sha256,
  storeOf,
} from "./export.rig.ts";
import { flow, flows, startAt } from "./store.flows.ts";

const rig = createRig();
afterAll(() => rig[Symbol.dispose]());

const rows = [
  ...flows(300),
  flow(300, { dnsError: "NXDOMAIN", interface: "=1+1", node: "edge-2" }),
  flow(301, { interface: "\u001b[2J\u2028'\\u0041\"," }),
  flow(302, { protocol: 1, icmpType: 8, icmpCode: 0, sourcePort: 0, destinationPort: 0 }),
];
const stopped = storeOf(rig.dir(), rows);

const exportOf = (dataDir: string, file: string, ...args: string[]) =>
  runFovea(["export", "--data-dir", dataDir, "--file", file, ...args]);

const sidecar = (file: string) => readJson(`${file}.manifest.json`);

describe("an exported file", () => {
  test.each(formats)("%s: has a manifest with its SHA-256, and is its owner's alone", async (ending) => {
    const file = rig.path(`.${ending}`);
    const { code, err, out } = await exportOf(stopped, file, "--node", "edge-1");
    expect({ code, out }).toEqual({ code: 0, out: "" });
    const digest = sha256(file);
    expect(sidecar(file)).toMatchObject({
      format: 1,
      schema: 2,
      version: "1.2.3",
      node: "edge-1",
      cluster: "",
      filters: {},
      redacted: false,
      rows: rows.length,
      lost: {},
      sha256: digest,
    });
    expect(err).toMatch(
      /^fovea: 303 rows in [^\n]+ bytes, SHA-256 [^\n]+; nothing of this time is missing\n$/,
    );
    expect(err).toContain(digest);
    for (const path of [file, `${file}.manifest.json`]) expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(names(dirname(file)).filter((name) => name.startsWith(`${basename(file)}.`))).toEqual([
      `${basename(file)}.manifest.json`,
    ]);
  });

  test("json is one document, one flow a line", async () => {
    const file = rig.path(".json");
    await exportOf(stopped, file);
    const text = readFileSync(file, "utf8");
    const document = JSON.parse(text) as { fovea: object; flows: { seq: number }[]; rows: number };
    expect(document.flows.map(({ seq: _, ...flow }) => flow)).toEqual(rows);
    expect(document.rows).toBe(rows.length);
    const { rows: _rows, lost: _lost, sha256: _sha256, ...head } = sidecar(file);
    expect(document.fovea).toEqual(head);
    expect(text.split("\n")).toHaveLength(rows.length + 3);
    expect(["\u001b", "\u2028"].filter((character) => text.includes(character))).toEqual([]);
  });

  test("json without any flow is a document too", async () => {
    const file = rig.path(".json");
    const { err } = await exportOf(stopped, file, "--to", "2020-01-01T00:00:00Z");
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ flows: [], rows: 0 });
    expect(err).toStartWith("fovea: 0 rows in ");
    expect(sidecar(file)).toMatchObject({ to: "2020-01-01T00:00:00.000Z", rows: 0 });
  });

  test("csv has the columns of fovea flows, and no cell is a formula", async () => {
    using store = openWide(storeOf(rig.dir(), rows));
    await using server = await serveStore(rig, store);
    const file = rig.path(".csv");
    await runFovea(["export", "--server", server.url, "--file", file]);
    const shown = ["flows", "--server", server.url, "-o", "csv", "-n", "1000", "--order", "oldest"];
    expect(readFileSync(file, "utf8")).toBe((await runFovea(shown)).out);
    expect(readFileSync(file, "utf8")).toContain(",'=1+1,");
  });

  test("sqlite can be asked by anyone", async () => {
    const file = rig.path(".db");
    await exportOf(stopped, file);
    const database = openDatabase({ path: file, readonly: true });
    const all = (sql: string) => database.prepare(sql).raw().all();
    expect(all("PRAGMA integrity_check")).toEqual([["ok"]]);
    const first = "SELECT start_at, ended, source, dns_error, node FROM flows WHERE seq = 301";
    const { startAt: start, endAt, source } = rows[300]!;
    expect(all(first)).toEqual([[start, new Date(endAt).toISOString(), source, "NXDOMAIN", "edge-2"]]);
    expect(all("SELECT value FROM export WHERE name = 'rows'")).toEqual([["303"]]);
    const plans = ["end_at > 5", "source = '10.0.0.7'", "destination = '10.0.0.7'"].map((where) =>
      String(all(`EXPLAIN QUERY PLAN SELECT * FROM flows WHERE ${where}`)),
    );
    expect(plans.filter((plan) => plan.includes("USING INDEX"))).toHaveLength(3);
    expect(all("PRAGMA application_id")).not.toEqual([[0]]);
    database.close();
  });
});

describe("what is exported", () => {
  const seqs = (file: string): number[] =>
    (readJson(file)["flows"] as { seq: number }[]).map(({ seq }) => seq);

  test("the API and the file give the same", async () => {
    const [asked, read] = [rig.path(".json"), rig.path(".json")];
    using store = openWide(storeOf(rig.dir(), flows(2500)));
    await using server = await serveStore(rig, store);
    const args = ["--verdict", "dropped", "--from", new Date(startAt + 5000).toISOString()];
    const { code } = await runFovea(["export", "--server", server.url, "--file", asked, ...args]);
    expect(code).toBe(0);
    await exportOf(dirname(store.stats().path), read, ...args);
    expect(readJson(asked)["flows"]).toEqual(readJson(read)["flows"]);
    expect(seqs(asked).length).toBeGreaterThan(100);
    expect(sidecar(asked)).toMatchObject({ node: "n1", cluster: "c1", filters: { verdict: ["dropped"] } });
  });

  test("all pages of an appliance that runs, in the order of the store", async () => {
    using store = openWide(storeOf(rig.dir(), flows(2500)));
    await using server = await serveStore(rig, store);
    const file = rig.path(".json");
    await runFovea(["export", "--server", server.url, "--file", file]);
    expect(seqs(file)).toEqual(Array.from({ length: 2500 }, (_, index) => index + 1));
    expect(server.requests.filter((line) => line === "GET /api/v1/flows")).toHaveLength(5);
  });

  test("the store of an appliance that was killed, its log beside it", async () => {
    using store = openWide(rig.dir());
    append(store, flows(50));
    const dead = rig.dir();
    for (const part of ["", "-wal"]) {
      expect(statSync(`${store.stats().path}${part}`).size).toBeGreaterThan(0);
      copyFileSync(`${store.stats().path}${part}`, join(dead, `fovea.db${part}`));
    }
    const file = rig.path(".json");
    expect(await exportOf(dead, file)).toMatchObject({ code: 0 });
    expect(seqs(file)).toHaveLength(50);
  });

  test("filters are told in the manifest, times as they were when the export began", async () => {
    const file = rig.path(".json");
    const args = ["--source", "10.0.0.0/8,2001:db8::/32", "--port", "443", "--port", "53", "--since", "1h"];
    await exportOf(stopped, file, ...args);
    const manifest = sidecar(file);
    expect(manifest["filters"]).toEqual({ source: ["10.0.0.0/8", "2001:db8::/32"], port: ["443", "53"] });
    expect(Date.parse(String(manifest["from"]))).toBe(Number(manifest["exportedAt"]) - 3_600_000);
    expect(manifest["to"]).toBeUndefined();
  });

  test("to stdout, without a manifest", async () => {
    const csv = await exportOf(stopped, "-", "--format", "csv", "--verdict", "dropped");
    expect(csv.out.split("\n")[0]).toStartWith("seq,startAt,");
    expect(csv.err).toMatch(/^fovea: 30 rows in stdout; nothing/);
    const json = await exportOf(stopped, "-", "--format", "json", "--verdict", "dropped");
    expect((JSON.parse(json.out) as { flows: [] }).flows).toHaveLength(30);
    expect(names(process.cwd()).filter((name) => name.startsWith("-"))).toEqual([]);
  });
});

describe("what is missing", () => {
  /** An appliance that says in turn what is missing, and gives pages of one flow. */
  const serve = (missing: readonly Record<string, number>[], pages: readonly object[]) => {
    const [answers, given] = [[...missing], [...pages]];
    return Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: ({ url }) => {
        if (url.includes("/status")) return Response.json({ node: "n", cluster: "" });
        const flow = { ...flows(1)[0], seq: 1 };
        const base = { flows: [flow], cursor: "c", more: false, passed: 0, lost: {}, lostSince: startAt };
        if (url.includes("limit=1&") || url.endsWith("limit=1"))
          return Response.json({ ...base, lost: answers.shift() });
        return Response.json({ ...base, ...given.shift() });
      },
    });
  };

  test("is what was lost, and of what was evicted that which was not read before", async () => {
    await using server = serve(
      [{ "rows.evicted": 5 }, { "rows.evicted": 20, "rows.throttled.window": 2 }],
      [{ more: true }, { more: true, passed: 3 }, { passed: 4 }],
    );
    const file = rig.path(".json");
    const { err } = await runFovea(["export", "--server", String(server.url), "--file", file]);
    const lost = { "rows.evicted": 12, "rows.throttled.window": 2 };
    expect(sidecar(file)).toMatchObject({ rows: 3, lost, lostSince: startAt });
    expect(readJson(file)).toMatchObject({ rows: 3, lost, lostSince: startAt });
    expect(err).toMatch(/2 rows of this time were throttled, 12 evicted/);
  });

  test("of a store is what its ledger says of the time", async () => {
    const dir = rig.dir();
    using store = openWide(dir);
    store.append({ rows: flows(3), ledger: { "rows.offered": 10, "rows.throttled.window": 7 } });
    const file = rig.path(".json");
    await exportOf(dir, file, "--from", "2020-01-01T00:00:00Z");
    expect(sidecar(file)).toMatchObject({ lost: { "rows.throttled.window": 7 } });
    await exportOf(dir, file, "--force", "--to", "2020-01-01T00:00:00Z");
    expect(sidecar(file)).toMatchObject({ rows: 0, lost: {} });
  });
});

describe("redacted", () => {
  test("no address is in the file nor in its manifest, and filters meant the true ones", async () => {
    const addresses = new Set(rows.flatMap(({ source, destination }) => [source, destination]));
    for (const ending of formats) {
      const file = rig.path(`.${ending}`);
      const args = ["--redact", "--address", "192.168.0.0/16", "--port", "443"];
      const { err } = await exportOf(stopped, file, ...args);
      const matching = rows.filter(
        ({ destination, destinationPort }) => destination.startsWith("192.168") && destinationPort === 443,
      );
      expect(err).toStartWith(`fovea: ${matching.length} rows`);
      const manifest = readFileSync(`${file}.manifest.json`, "utf8");
      expect(JSON.parse(manifest)).toMatchObject({
        redacted: true,
        filters: { address: ["(redacted)"], port: ["443"] },
      });
      const text = `${readFileSync(file, "latin1")}${manifest}`;
      // A pseudonym may have these numbers in its midst.
      expect(/(?<![\d.])192\.168\./.exec(text)).toBeNull();
      expect([...addresses].filter((address) => text.includes(`"${address}"`))).toEqual([]);
    }
  });

  test("a key gives the same pseudonyms again, none gives others each time", async () => {
    const key = rig.path(".key");
    writeFileSync(key, "a secret of some length\n", { mode: 0o600 });
    const sources = async (...args: string[]) => {
      const { out } = await exportOf(stopped, "-", "--format", "json", ...args);
      return (JSON.parse(out) as { flows: { source: string }[] }).flows.map(({ source }) => source);
    };
    const once = await sources("--redact-key", key);
    expect(await sources("--redact", "--redact-key", key)).toEqual(once);
    expect(await sources("--redact")).not.toEqual(once);
    expect(once).not.toEqual(rows.map(({ source }) => source));
    chmodSync(key, 0o644);
    const open = await exportOf(stopped, "-", "--format", "json", "--redact-key", key);
    expect(open).toMatchObject({ code: 1, out: "", err: expect.stringContaining("chmod o-rwx") });
    writeFileSync(key, "short", { mode: 0o600 });
    chmodSync(key, 0o600);
    const short = await exportOf(stopped, "-", "--format", "json", "--redact-key", key);
    expect(short).toMatchObject({ code: 1, err: expect.stringContaining("at least 16") });
  });
});

describe("refused", () => {
  test.each([
    [[], /--file is missing/],
    [["--file", "x.txt"], /--file x\.txt has no ending that tells the format/],
    [["--file", "-"], /no ending that tells/],
    [["--file", "-", "--format", "sqlite"], /sqlite cannot go to stdout/],
    [["--file", "x.json", "--format", "xml"], /'xml' is invalid/],
    [["--file", "x.json", "--data-dir", "d", "--server", "s"], /leave one out/],
    [["--file", "x.json", "--node", "n"], /--node goes with --data-dir/],
    [
      ["--file", "x.json", "--source-port", "70000"],
      /^fovea: --source-port "70000" is no port from 0 to 65535\n/,
    ],
    [["--file", "x.json", "--source", "10.0.0.0/99"], /--source "10\.0\.0\.0\/99" is no address/],
    [["--file", "x.json", "--since", "1h", "--from", "-2h"], /--since cannot be given together with from/],
  ])("%p: wrong call, exit code 2", async (args, err) => {
    const ran = await runFovea(["export", ...args]);
    expect(ran.err).toMatch(err);
    expect(ran).toMatchObject({ code: 2, out: "" });
  });

  test("a file that is there stays what it is, unless it is forced", async () => {
    const file = rig.path(".json");
    writeFileSync(file, "mine");
    const refused = await exportOf(stopped, file);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("is there already") });
    expect(readFileSync(file, "utf8")).toBe("mine");
    expect(await exportOf(stopped, file, "--force")).toMatchObject({ code: 0 });
    expect(sidecar(file)["sha256"]).toBe(sha256(file));
    const beside = rig.path(".json");
    writeFileSync(`${beside}.manifest.json`, "mine");
    expect(await exportOf(stopped, beside)).toMatchObject({ code: 1 });
    expect(existsSync(beside)).toBeFalse();
  });

  test("two exports do not write one file", async () => {
    const file = rig.path(".csv");
    writeFileSync(`${file}.part`, "half");
    const refused = await exportOf(stopped, file);
    expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("another export writes it") });
    expect(readFileSync(`${file}.part`, "utf8")).toBe("half");
    expect(await exportOf(stopped, file, "--force")).toMatchObject({ code: 0 });
  });

  test("what is no store, of another schema, or not there", async () => {
    const file = rig.path(".json");
    const absent = rig.path();
    expect((await exportOf(absent, file)).err).toContain("fovea.db is not there");
    expect(existsSync(absent)).toBeFalse();
    const foreign = rig.dir();
    writeFileSync(join(foreign, "fovea.db"), "text");
    expect((await exportOf(foreign, file)).err).toContain("is no store of fovea");
    for (const [version, told] of [
      [1, "start the appliance once"],
      [99, "written by a newer fovea"],
    ] as const) {
      const dir = storeOf(rig.dir(), flows(1));
      const database = openDatabase({ path: join(dir, "fovea.db") });
      database.pragma(`user_version = ${version}`);
      database.close();
      const ran = await exportOf(dir, file);
      expect(ran).toMatchObject({ code: 1, err: expect.stringContaining(told) });
    }
    expect(names(dirname(file)).filter((name) => name.startsWith(basename(file)))).toEqual([]);
  });

  test("a directory that is not there, a disk that is full", async () => {
    const nowhere = await exportOf(stopped, join(rig.path(), "x.json"));
    expect(nowhere).toMatchObject({ code: 1, err: expect.stringContaining("ENOENT") });
    const disk = rig.dir();
    const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", disk]);
    if (mounted.exitCode !== 0) return console.warn(`Skipped, no mounts here: ${mounted.stderr}`);
    try {
      for (const ending of formats) {
        const full = await exportOf(stopped, join(disk, `x.${ending}`));
        expect(full.err).toMatch(/could not be written, and nothing of it is left: .*(ENOSPC|full)/);
        expect(full.code).toBe(1);
        expect(names(disk)).toEqual([]);
      }
    } finally {
      Bun.spawnSync(["umount", disk]);
    }
  });
});

test("stopped in the middle it leaves nothing", async () => {
  for (const ending of formats) {
    const dir = rig.dir();
    const stop = new AbortController();
    await using server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: ({ url }) => {
        if (url.includes("/status")) return Response.json({ node: "n", cluster: "" });
        if (url.includes("cursor=")) {
          expect(names(dir)).toEqual([`x.${ending}.part`]);
          stop.abort(new Error("stopped by SIGINT"));
          return new Promise<Response>(() => undefined);
        }
        const flow = { ...flows(1)[0], seq: 1 };
        return Response.json({ flows: [flow], cursor: "c", more: true, passed: 0, lost: {} });
      },
    });
    const args = ["export", "--server", String(server.url), "--file", join(dir, `x.${ending}`)];
    const ran = await runFovea(args, { stop: stop.signal });
    expect(ran).toEqual({ code: 1, out: "", err: "" });
    expect(names(dir)).toEqual([]);
  }
});

test("a real SIGINT in the middle leaves nothing, while the appliance goes on writing", async () => {
  const data = rig.dir();
  using store = openWide(data);
  for (let part = 0; part < 10; part++) append(store, flows(20_000, part * 20_000));
  const dir = rig.dir();
  const file = join(dir, "x.json");
  const main = join(import.meta.dir, "../src/main.ts");
  const child = Bun.spawn([process.execPath, main, "export", "--data-dir", data, "--file", file], {
    stderr: "pipe",
  });
  while (!existsSync(`${file}.part`) || statSync(`${file}.part`).size < 1_000_000) await Bun.sleep(1);
  child.kill("SIGINT");
  append(store, flows(10));
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toBe("");
  expect(names(dir)).toEqual([]);
  expect(store.stats().errors).toEqual({});
});
