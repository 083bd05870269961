// The shipped binary as users run it: scraped by a real Prometheus, with few rights, twice, and stopped.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostV4, openPair, type Pair } from "./lab.ts";

const binary = join(import.meta.dir, "../../dist/fovea");
const metricsUrl = "http://127.0.0.1:10093/metrics";
const pings = 7;

let pair: Pair;
let scratch: string;

beforeAll(() => {
  if (!existsSync(binary)) throw new Error("dist/fovea is missing: npm run build makes it");
  pair = openPair();
  scratch = mkdtempSync(join(tmpdir(), "fovea-binary-"));
});

afterAll(() => {
  pair.lab[Symbol.dispose]();
  rmSync(scratch, { recursive: true, force: true });
});

/** What a URL of the host's namespace answers; undefined while nothing listens. */
function get(url: string): string | undefined {
  const script = "process.stdout.write(await (await fetch(process.argv[1])).text())";
  const done = Bun.spawnSync(["ip", "netns", "exec", pair.host.name, process.execPath, "-e", script, url]);
  return done.exitCode === 0 ? done.stdout.toString() : undefined;
}

async function eventually<T>(what: string, look: () => T | undefined): Promise<T> {
  const giveUpAt = performance.now() + 40_000;
  for (;;) {
    const seen = look();
    if (seen !== undefined) return seen;
    if (performance.now() > giveUpAt) throw new Error(`not within 40 s: ${what}`);
    await Bun.sleep(100);
  }
}

const value = (scrape: string, series: RegExp): number | undefined => {
  const line = scrape.split("\n").find((text) => series.test(text));
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
};

const ingress = /^kappie_forward_count\{.*Direction="ingress"/;

type Running = AsyncDisposable & { readonly child: Bun.Subprocess; stop(): Promise<number> };

async function start(
  dataDir: string,
  {
    prefix = [],
    flags = [],
  }: { readonly prefix?: readonly string[]; readonly flags?: readonly string[] } = {},
): Promise<Running> {
  const command = [...prefix, binary, "run", "--data-dir", join(scratch, dataDir), ...flags];
  const child = Bun.spawn(["ip", "netns", "exec", pair.host.name, ...command], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, FOVEA_FLOWS_IDLE: "60s", FOVEA_FLOWS_ACTIVE: "60s" },
  });
  const stop = async (): Promise<number> => {
    child.kill("SIGTERM");
    return await child.exited;
  };
  const running = { child, stop, [Symbol.asyncDispose]: async () => void (await stop()) };
  try {
    await eventually("a scrape with totals", () => {
      if (child.exitCode !== null) throw new Error(`fovea ended with ${child.exitCode}`);
      const scrape = get(metricsUrl);
      return value(scrape ?? "", ingress) === undefined ? undefined : scrape;
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return running;
}

const ping = (): string => pair.outside.run("ping", "-q", "-c", `${pings}`, "-i", "0.02", hostV4);

test("a real Prometheus reads what we counted", async () => {
  await using _fovea = await start("prometheus");
  const config = join(scratch, "prometheus.yml");
  writeFileSync(
    config,
    "scrape_configs: [{job_name: fovea, scrape_interval: 1s, static_configs: [{targets: ['127.0.0.1:10093']}]}]\n",
  );
  pair.host.spawn(
    ...["prometheus", `--config.file=${config}`, `--storage.tsdb.path=${join(scratch, "tsdb")}`],
    "--web.listen-address=127.0.0.1:9090",
  );
  ping();
  const query = (expression: string): { metric: Record<string, string>; value: [number, string] }[] => {
    const answer = get(`http://127.0.0.1:9090/api/v1/query?query=${encodeURIComponent(expression)}`);
    return answer?.startsWith("{") === true ? JSON.parse(answer).data.result : [];
  };
  const expected = await eventually("the pings in the scrape", () => {
    const counted = value(get(metricsUrl) ?? "", ingress) ?? 0;
    return counted >= pings ? counted : undefined;
  });
  const series = await eventually("the same count in Prometheus", () =>
    query('kappie_forward_count{Direction="ingress"}').find(
      ({ value: [, text] }) => Number(text) >= expected,
    ),
  );
  expect(Number(series.value[1])).toBe(expected);
  expect(series.metric).toMatchObject({ Direction: "ingress", NodeName: expect.stringMatching(/./) });
  const collectors = query("fovea_collector_success");
  expect(collectors.length).toBeGreaterThan(5);
  expect(collectors.filter(({ value: [, text] }) => text !== "1")).toEqual([]);
}, 90_000);

describe("with few rights", () => {
  const nobody = (capabilities: readonly string[]): readonly string[] => {
    const list = ["-all", ...capabilities.map((name) => `+${name}`)].join(",");
    const sets = [`--inh-caps=${list}`, `--ambient-caps=${list}`, `--bounding-set=${list}`];
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...sets];
  };
  const check = (
    capabilities: readonly string[],
  ): { ok: boolean; collectors: { name: string; ok: boolean; missing: string[] }[] } => {
    const command = [
      "ip",
      "netns",
      "exec",
      pair.host.name,
      ...nobody(capabilities),
      binary,
      "check",
      "-o",
      "json",
    ];
    const env = { ...process.env, FOVEA_DATA_DIR: join(scratch, "nobody"), TMPDIR: tmpdir() };
    return JSON.parse(Bun.spawnSync(command, { env }).stdout.toString());
  };
  const broken = (capabilities: readonly string[]): string[] =>
    check(capabilities)
      .collectors.filter(({ ok }) => !ok)
      .map(({ name }) => name);

  test("BPF, PERFMON and NET_ADMIN are enough for all of eBPF", () => {
    expect(broken(["bpf", "perfmon", "net_admin"])).toEqual([]);
  });

  test("each missing one is named with what it costs", () => {
    expect(broken(["bpf", "perfmon"])).toEqual(["flows", "dns"]);
    expect(broken(["bpf", "net_admin"])).toEqual([
      "flows",
      "drops",
      "rtt",
      "retransmits",
      "dns",
      "accounting",
    ]);
    const { collectors } = check(["bpf", "perfmon"]);
    const missing = collectors.find(({ name }) => name === "flows")?.missing.join() ?? "";
    expect(missing).toContain("flows, totals and TCP flags are not seen: CAP_NET_ADMIN missing");
    const sockets = collectors.find(({ name }) => name === "sockets")?.missing.join() ?? "";
    expect(sockets).toContain("CAP_SYS_PTRACE");
  });

  test("the families of /proc need none", () => {
    const names = check([])
      .collectors.filter(({ ok }) => ok)
      .map(({ name }) => name);
    expect(names).toEqual(["protocols", "sockets", "interfaces"]);
  });

  test("the appliance runs with them, as nobody", async () => {
    const dataDir = join(scratch, "few");
    mkdirSync(dataDir, { mode: 0o700 });
    chownSync(dataDir, 65534, 65534);
    chmodSync(scratch, 0o755);
    await using fovea = await start("few", { prefix: nobody(["bpf", "perfmon", "net_admin"]) });
    expect(fovea.child.exitCode).toBeNull();
    ping();
    await eventually("the pings", () =>
      (value(get(metricsUrl) ?? "", ingress) ?? 0) >= pings ? true : undefined,
    );
  }, 90_000);
});

test("a second one on the same data is refused", async () => {
  await using _fovea = await start("twice");
  const second = Bun.spawnSync([
    "ip",
    "netns",
    "exec",
    pair.outside.name,
    binary,
    "run",
    "--data-dir",
    join(scratch, "twice"),
  ]);
  expect(second.exitCode).toBe(1);
  expect(second.stderr.toString()).toMatch(/process \d+|pid \d+/);
}, 90_000);

const storedPings = (dataDir: string): number => {
  const sum =
    "SELECT SUM(packets) FROM flows_readable WHERE protocol = 1 AND direction = 'ingress' AND verdict = 'forwarded'";
  const file = join(scratch, dataDir, "fovea.db");
  return Number(Bun.spawnSync(["sqlite3", "-readonly", file, sum]).stdout.toString());
};

test("a changed configuration costs no packet, though the store is opened anew", async () => {
  const config = join(scratch, "reload.yaml");
  const configure = (days: number): void =>
    writeFileSync(config, `tick: 200ms\nstore: {ageMax: ${days}d}\n`, { mode: 0o600 });
  configure(3);
  const reloads = /^fovea_config_reloads_total\{result="applied"\}/;
  const sent = 600;
  {
    const fovea = await start("reload", { flags: ["--config", config] });
    const sending = Bun.spawn(
      [
        ...["ip", "netns", "exec", pair.outside.name],
        ...["ping", "-q", "-c", `${sent}`, "-i", "0.005", hostV4],
      ],
      { stdio: ["ignore", "ignore", "ignore"] },
    );
    for (const days of [4, 5, 6]) {
      configure(days);
      await eventually(`change ${days - 3}`, () =>
        (value(get(metricsUrl) ?? "", reloads) ?? 0) >= days - 3 ? true : undefined,
      );
    }
    await sending.exited;
    await eventually("all pings in the totals", () =>
      (value(get(metricsUrl) ?? "", ingress) ?? 0) >= sent ? true : undefined,
    );
    expect(await fovea.stop()).toBe(0);
  }
  expect(storedPings("reload")).toBe(sent);
}, 90_000);

test("a clean stop keeps the last rows", async () => {
  const fovea = await start("stop");
  ping();
  const startMs = performance.now();
  expect(await fovea.stop()).toBe(0);
  console.log(`a stop: ${(performance.now() - startMs).toFixed(0)} ms`);
  expect(storedPings("stop")).toBe(pings);
}, 90_000);
