// The shipped fovea.exe observing a Windows of stand-ins: what its scrape says, whatever HNS does.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { copyFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openWine, type Running, type Wine, wineLacks } from "../wine.rig.ts";

setDefaultTimeout(120_000);

const root = join(import.meta.dir, "../..");
const exe = join(root, "dist/fovea.exe");

if (wineLacks.length > 0)
  console.error(`SKIPPED: fovea.exe needs wine; missing here: ${wineLacks.join(", ")}`);

type Scrape = ReadonlyMap<string, number>;

/** Series of a scrape, by name and labels as they stand there. */
const parse = (text: string): Scrape =>
  new Map(
    text.split("\n").flatMap((line): [string, number][] => {
      const at = line.lastIndexOf(" ");
      return line === "" || line.startsWith("#") ? [] : [[line.slice(0, at), Number(line.slice(at + 1))]];
    }),
  );

const namesOf = (scrape: Scrape): ReadonlySet<string> =>
  new Set([...scrape.keys()].map((series) => series.split("{")[0] ?? ""));

/** The sum of what begins so and has these labels. */
const sumOf = (scrape: Scrape, name: string, ...labels: readonly string[]): number =>
  [...scrape]
    .filter(([series]) => series.startsWith(`${name}{`) && labels.every((label) => series.includes(label)))
    .reduce((sum, [, value]) => sum + value, 0);

describe.skipIf(wineLacks.length > 0)("fovea.exe", () => {
  let wine: Wine;
  let run: Running;
  let url: string;

  async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
    const giveUpAt = performance.now() + 60_000;
    for (;;) {
      const seen = await look();
      if (seen !== undefined) return seen;
      if (performance.now() > giveUpAt) throw new Error(`not within 60 s: ${what}; ${run.errors()}`);
      await Bun.sleep(50);
    }
  }
  const stubFile = () => join(wine.drive, "fovea-stubs/hns.txt");
  const setHns = (settings: Readonly<Record<string, string | number>>): void => {
    mkdirSync(join(wine.drive, "fovea-stubs"), { recursive: true });
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(`${stubFile()}.part`, lines.join(""));
    renameSync(`${stubFile()}.part`, stubFile());
  };
  async function start(): Promise<void> {
    const env = {
      FOVEA_WINDOWS_HNS_EVERY: "1s",
      FOVEA_WINDOWS_HNS_TIMEOUT: "8s",
      FOVEA_WINDOWS_VFP_EVERY: "1s",
      FOVEA_METRICS_SERIES_MAX: "200000",
    };
    run = wine.start([exe, "run", "--data-dir", "C:\\data", "--listen", "127.0.0.1:0"], { env });
    url = await until("it listens", () =>
      Promise.resolve(/"message":"started".*"url":"([^"]+)"/.exec(run.errors())?.[1]),
    );
  }
  async function stop(): Promise<void> {
    run.signal("SIGINT");
    expect(await run.exited).toBe(0);
  }
  const scrape = async (): Promise<Scrape> => parse(await (await fetch(`${url}/metrics`)).text());
  const scraped = (what: string, isSo: (seen: Scrape) => boolean): Promise<Scrape> =>
    until(what, async () => {
      const seen = await scrape();
      return isSo(seen) ? seen : undefined;
    });
  const healthy = (seen: Scrape) => seen.get('fovea_collector_success{collector="endpoints"}');

  beforeAll(async () => {
    wine = openWine();
    await wine.hold(); // Else each program starts a Windows of its own, 2 s.
    setHns({ endpoints: 3, tick: 1000 });
    await start();
  });
  afterAll(async () => {
    await stop();
    wine[Symbol.dispose]();
  });

  test("has the families of Windows, and none that it cannot see", async () => {
    const seen = await scraped("all collectors", (now) =>
      [
        "kappie_forward_count",
        "kappie_tcp_state",
        "kappie_interface_stats",
        "kappie_tcp_flag_counters",
      ].every((name) => namesOf(now).has(name)),
    );
    // Bytes of drops come from pktmon alone.
    expect(new Set([...namesOf(seen)].filter((name) => name.startsWith("kappie_")))).toEqual(
      new Set([
        ...["kappie_drop_count", "kappie_forward_bytes", "kappie_forward_count", "kappie_interface_stats"],
        ...["kappie_tcp_connection_stats", "kappie_tcp_flag_counters", "kappie_tcp_state"],
      ]),
    );
    expect(sumOf(seen, "fovea_protocol_statistics_total", 'protocol="udp"')).toBeGreaterThan(0);
    const status = await (await fetch(`${url}/api/v1/status`)).text();
    expect(status).toContain("there are no flow records");
  });

  test("adds up what all endpoints counted since its start, each packet once", async () => {
    setHns({ endpoints: 3, tick: 1010 });
    // Endpoint m has tick * m packets in: ten ticks of three endpoints are 60, whatever they had before.
    const seen = await scraped(
      "ten more ticks",
      (now) => sumOf(now, "kappie_forward_count", 'Direction="ingress"') === 60,
    );
    expect(sumOf(seen, "kappie_forward_count", 'Direction="egress"')).toBe(120);
    expect(sumOf(seen, "kappie_forward_bytes", 'Direction="ingress"')).toBe(6000);
    expect(sumOf(seen, "kappie_drop_count", 'Reason="endpoint"', 'Direction="egress"')).toBe(60);
    expect(sumOf(seen, "fovea_endpoint_packets_total", 'direction="ingress"')).toBe(6060);
    // One vanishes and stays in the sum; a new one counts from its first packet on.
    setHns({ endpoints: 3, first: 1, tick: 1010 });
    const later = await scraped("the new endpoint", (now) =>
      [...now.keys()].some((series) => series.includes("000000000003")),
    );
    expect(sumOf(later, "kappie_forward_count", 'Direction="ingress"')).toBeGreaterThan(60);
  });

  test("answers a scrape while a call hangs, says so, and goes on when HNS does", async () => {
    setHns({ endpoints: 3, tick: 1020, fault: "hang", seconds: 30 });
    const hung = await scraped("the deadline", (now) => healthy(now) === 0);
    expect(namesOf(hung).has("kappie_tcp_state")).toBe(true);
    expect(namesOf(hung).has("kappie_forward_count")).toBe(false);
    setHns({ endpoints: 3, tick: 1030 });
    await scraped("HNS again", (now) => healthy(now) === 1 && namesOf(now).has("kappie_forward_count"));
  });

  test.each([
    { fault: "denied", at: "list" },
    { fault: "denied-answer", at: "list" },
    { fault: "null", at: "list" },
    { fault: "garbage", at: "all" },
  ])("tells of %j, and everything else goes on", async (fault) => {
    setHns({ endpoints: 3, tick: 1040, ...fault });
    const seen = await scraped("the fault", (now) => healthy(now) === 0);
    expect(seen.get('fovea_collector_success{collector="protocols"}')).toBe(1);
    setHns({ endpoints: 3, tick: 1050 });
    await scraped("HNS again", (now) => healthy(now) === 1);
  });

  test("reads 10,000 endpoints with counts beyond 2^53", async () => {
    setHns({ endpoints: 10_000, tick: 1, start: `${2n ** 60n}`, ports: 0 });
    const seen = await scraped("all of them", (now) => now.get('fovea_endpoints{kind="local"}') === 10_000);
    expect(
      [...seen.keys()].filter((series) => series.startsWith("fovea_endpoint_bytes_total{")),
    ).toHaveLength(20_000);
    setHns({ endpoints: 3, tick: 1060 });
    await scraped("fewer again", (now) => now.get('fovea_endpoints{kind="local"}') === 3);
  });

  test("without HNS, and with one that lacks the call, has all the rest", async () => {
    await stop();
    const library = join(wine.system, "vmcompute.dll");
    renameSync(library, `${library}.away`);
    for (const lacking of [undefined, join(wine.system, "vmcompute-no-export.dll")]) {
      if (lacking !== undefined) copyFileSync(lacking, library);
      await start();
      const seen = await scraped(
        "the reason",
        (now) => healthy(now) === 0 && namesOf(now).has("kappie_tcp_state"),
      );
      expect(namesOf(seen).has("kappie_forward_count")).toBe(false);
      const status = await (await fetch(`${url}/api/v1/status`)).text();
      expect(status).toMatch(lacking === undefined ? /is not on this machine/ : /HNS cannot be asked/);
      await stop();
    }
    rmSync(library);
    renameSync(`${library}.away`, library);
    await start();
    await scraped("HNS", (now) => healthy(now) === 1);
  });
});
