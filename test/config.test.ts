// Configuration: every key from file, environment and command line; what is wrong is told with its place.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import {
  ConfigError,
  type ConfigProblem,
  loadConfig,
  loadConfigWithSources,
  printConfig,
  unknownVariables,
} from "../src/config.ts";
import { configKeys } from "../src/config-schema.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fovea-config-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const write = (text: string): string => {
  const file = join(directory, "fovea.yaml");
  writeFileSync(file, text);
  return file;
};

const load = (text: string, env: Record<string, string> = {}) => loadConfig({ file: write(text), env });

function problemsOf(run: () => unknown): readonly ConfigProblem[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error("no problem was found");
}

const placed = (run: () => unknown) => problemsOf(run).map(({ line, key }) => [line, key]);

describe("defaults", () => {
  test("are those of the manual", () => {
    expect(loadConfig({ env: {} })).toEqual({
      node: hostname(),
      cluster: "",
      listen: { host: "127.0.0.1", port: 10_093 },
      dataDir: ".fovea",
      tick: 1000,
      log: { level: "info", format: "auto" },
      interfaces: { include: ["*"], exclude: [], loopback: false, uplinks: "auto", attach: "auto" },
      flows: { idle: 10_000, active: 30_000, max: 131_072, tableBytes: 33_554_432, spillBytes: 4_194_304 },
      drops: { max: 16_384 },
      dns: { enabled: true, namesMax: 16_384 },
      sockets: { remotesMax: 100, namespacesMax: 256, every: 10_000 },
      windows: {
        ...{ hnsEvery: 10_000, hnsTimeout: 5000, endpointsMax: 10_000 },
        ...{ vfp: true, vfpEvery: 30_000, vfpTimeout: 5000, pktmon: false, pktmonEvery: 30_000 },
      },
      metrics: { names: ["kappie"], seriesMax: 20_000 },
      throttle: { mode: "window", reserve: 0.2, agentConfig: "/etc/config/settings" },
      filters: { include: [], exclude: [], files: [] },
      store: { bytesMax: 1_073_741_824, ageMax: 604_800_000 },
      rollups: { keysMax: 1000, minuteAgeMax: 2_592_000_000, hourAgeMax: 34_560_000_000 },
      samples: { enabled: true, step: 15_000, ageMax: 2_592_000_000 },
      flowLog: {
        enabled: false,
        file: "/var/log/fovea/flows.log",
        bytesMax: 10_485_760,
        filesMax: 5,
        ageMax: 604_800_000,
        compress: true,
      },
      api: { openMetrics: false, tls: {}, bodyMax: 1_048_576, connectionsMax: 256, streamsMax: 16 },
      sinks: [],
    });
  });

  test("stand for an empty file, an empty section and an empty value", () => {
    const defaults = loadConfig({ env: {} });
    for (const text of [
      "",
      "# nothing\n",
      "store:\n",
      "store:\n  bytesMax:\n",
      "api: {tls: {certFile: null}}\n",
    ])
      expect(load(text)).toEqual(defaults);
  });
});

describe("sources", () => {
  test("the command line goes before the environment, that before the file", () => {
    const file = write("tick: 2s\ncluster: file\nnode: file\nstore: {ageMax: 1d, bytesMax: 2GiB}\n");
    const env = { FOVEA_CLUSTER: "variable", FOVEA_NODE: "variable", FOVEA_STORE_AGE_MAX: "2d" };
    const config = loadConfig({ file, env, overrides: { node: "flag", dataDir: undefined } });
    expect([config.tick, config.cluster, config.node]).toEqual([2000, "variable", "flag"]);
    expect(config.store).toEqual({ ageMax: 172_800_000, bytesMax: 2 * 2 ** 30 });
    expect(config.dataDir).toBe(".fovea");
  });

  test("a list that is given replaces the one below, it is not added to it", () => {
    const env = { FOVEA_INTERFACES_INCLUDE: "eth*, wlan0" };
    expect(load("interfaces: {include: [a, b, c]}", env).interfaces.include).toEqual(["eth*", "wlan0"]);
  });

  test("every key has an environment twin that takes what the file takes", () => {
    const given: Record<string, string> = {
      FOVEA_NODE: "12",
      FOVEA_CLUSTER: "true",
      FOVEA_LISTEN: "[::1]:0",
      FOVEA_DATA_DIR: "/data",
      FOVEA_TICK: "1.5s",
      FOVEA_LOG_LEVEL: "warn",
      FOVEA_LOG_FORMAT: "json",
      FOVEA_INTERFACES_INCLUDE: "eth*",
      FOVEA_INTERFACES_EXCLUDE: "veth*,docker0",
      FOVEA_INTERFACES_LOOPBACK: "True",
      FOVEA_INTERFACES_UPLINKS: "eth0",
      FOVEA_INTERFACES_ATTACH: "clsact",
      FOVEA_FLOWS_IDLE: "5s",
      FOVEA_FLOWS_ACTIVE: "1m",
      FOVEA_FLOWS_MAX: "2048",
      FOVEA_FLOWS_TABLE_BYTES: "16MiB",
      FOVEA_FLOWS_SPILL_BYTES: "131072",
      FOVEA_DROPS_MAX: "512",
      FOVEA_DNS_ENABLED: "false",
      FOVEA_DNS_NAMES_MAX: "0",
      FOVEA_SOCKETS_REMOTES_MAX: "7",
      FOVEA_SOCKETS_NAMESPACES_MAX: "8",
      FOVEA_SOCKETS_EVERY: "500ms",
      FOVEA_METRICS_NAMES: "kappie,networkobservability",
      FOVEA_METRICS_SERIES_MAX: "500",
      FOVEA_THROTTLE_ENABLED: "TRUE",
      FOVEA_THROTTLE_RATE: "100",
      FOVEA_THROTTLE_WINDOW: "60",
      FOVEA_THROTTLE_INTERVAL: "1.5m",
      FOVEA_THROTTLE_PRINT: "yes",
      FOVEA_THROTTLE_MODE: "smooth",
      FOVEA_THROTTLE_RESERVE: "12.5%",
      FOVEA_THROTTLE_AGENT_CONFIG: "/agent",
      FOVEA_FILTERS_INCLUDE: "[{from: {ip: 10.0.0.0/8}, port: [53, 443]}, {verdict: dropped}]",
      FOVEA_WINDOWS_HNS_EVERY: "2s",
      FOVEA_WINDOWS_HNS_TIMEOUT: "3s",
      FOVEA_WINDOWS_ENDPOINTS_MAX: "20",
      FOVEA_WINDOWS_VFP: "false",
      FOVEA_WINDOWS_VFP_EVERY: "4s",
      FOVEA_WINDOWS_VFP_TIMEOUT: "1500ms",
      FOVEA_WINDOWS_PKTMON: "true",
      FOVEA_WINDOWS_PKTMON_EVERY: "1m",
      FOVEA_FILTERS_EXCLUDE: '[{"protocol": "tcp", "to": {"port": 22}}]',
      FOVEA_FILTERS_FILES: "/a.yaml, /b.yaml",
      FOVEA_STORE_BYTES_MAX: "64MB",
      FOVEA_STORE_AGE_MAX: "12h",
      FOVEA_ROLLUPS_KEYS_MAX: "50",
      FOVEA_ROLLUPS_MINUTE_AGE_MAX: "1h",
      FOVEA_ROLLUPS_HOUR_AGE_MAX: "2h",
      FOVEA_SAMPLES_ENABLED: "false",
      FOVEA_SAMPLES_STEP: "1m",
      FOVEA_SAMPLES_AGE_MAX: "1d",
      FOVEA_FLOW_LOG_ENABLED: "true",
      FOVEA_FLOW_LOG_FILE: "/f",
      FOVEA_FLOW_LOG_BYTES_MAX: "64KiB",
      FOVEA_FLOW_LOG_FILES_MAX: "1",
      FOVEA_FLOW_LOG_AGE_MAX: "1h",
      FOVEA_FLOW_LOG_COMPRESS: "false",
      FOVEA_API_TOKEN_FILE: "/t",
      FOVEA_API_OPEN_METRICS: "true",
      FOVEA_API_TLS_CERT_FILE: "/c",
      FOVEA_API_TLS_KEY_FILE: "/k",
      FOVEA_API_TLS_CLIENT_CA_FILE: "/a",
      FOVEA_API_BODY_MAX: "2MiB",
      FOVEA_API_CONNECTIONS_MAX: "9",
      FOVEA_API_STREAMS_MAX: "0",
      FOVEA_SINKS: "[]",
    };
    expect(Object.keys(given)).toHaveLength(configKeys().length);
    expect(unknownVariables(given)).toEqual([]);
    expect(loadConfig({ env: given })).toEqual({
      node: "12",
      cluster: "true",
      listen: { host: "::1", port: 0 },
      dataDir: "/data",
      tick: 1500,
      log: { level: "warn", format: "json" },
      interfaces: {
        include: ["eth*"],
        exclude: ["veth*", "docker0"],
        loopback: true,
        uplinks: ["eth0"],
        attach: "clsact",
      },
      flows: { idle: 5000, active: 60_000, max: 2048, tableBytes: 16_777_216, spillBytes: 131_072 },
      drops: { max: 512 },
      dns: { enabled: false, namesMax: 0 },
      sockets: { remotesMax: 7, namespacesMax: 8, every: 500 },
      windows: {
        ...{ hnsEvery: 2000, hnsTimeout: 3000, endpointsMax: 20 },
        ...{ vfp: false, vfpEvery: 4000, vfpTimeout: 1500, pktmon: true, pktmonEvery: 60_000 },
      },
      metrics: { names: ["kappie", "networkobservability"], seriesMax: 500 },
      // The documented keys stay as they are written: another file judges them.
      throttle: {
        throttle_enabled: "TRUE",
        throttle_rate: "100",
        throttle_window: "60",
        throttle_interval: "1.5m",
        throttle_print: "yes",
        mode: "smooth",
        reserve: 0.125,
        agentConfig: "/agent",
      },
      filters: {
        include: [{ from: { ip: ["10.0.0.0/8"] }, port: [53, 443] }, { verdict: ["dropped"] }],
        exclude: [{ protocol: ["tcp"], to: { port: [22] } }],
        files: ["/a.yaml", "/b.yaml"],
      },
      store: { bytesMax: 64_000_000, ageMax: 43_200_000 },
      rollups: { keysMax: 50, minuteAgeMax: 3_600_000, hourAgeMax: 7_200_000 },
      samples: { enabled: false, step: 60_000, ageMax: 86_400_000 },
      flowLog: {
        enabled: true,
        file: "/f",
        bytesMax: 65_536,
        filesMax: 1,
        ageMax: 3_600_000,
        compress: false,
      },
      api: {
        tokenFile: "/t",
        openMetrics: true,
        tls: { certFile: "/c", keyFile: "/k", clientCaFile: "/a" },
        bodyMax: 2_097_152,
        connectionsMax: 9,
        streamsMax: 0,
      },
      sinks: [],
    });
  });

  test("what each source has for a key is told, the one that goes first in front", () => {
    const file = write("throttle:\n  throttle_rate: 7\n  throttle_window:\nfilters: {files: [/a]}\n");
    const env = { FOVEA_THROTTLE_RATE: "8", FOVEA_THROTTLE_PRINT: "" };
    const { given } = loadConfigWithSources({ file, env, overrides: { throttle: { throttle_rate: 9 } } });
    expect(given(["throttle", "throttle_rate"])).toEqual([
      { value: 9, file: "command line" },
      { value: "8", file: "environment" },
      { value: 7, file, line: 2 },
    ]);
    expect(given(["throttle", "throttle_window"])).toEqual([]);
    expect(given(["throttle", "throttle_print"])).toEqual([]);
    expect(given(["filters", "files"])).toEqual([{ value: ["/a"], file, line: 4 }]);
  });

  test("a list of rules in a variable may be YAML; what is wrong in it is told with its place", () => {
    const rules = "- verdict: dropped\n- to:\n    port: 70000\n";
    const wrong = problemsOf(() => loadConfig({ env: { FOVEA_FILTERS_EXCLUDE: rules } }));
    expect(wrong.map(({ key }) => key)).toEqual([
      "FOVEA_FILTERS_EXCLUDE_1_TO_PORT_0 (key filters.exclude.1.to.port.0)",
    ]);
    for (const text of ["nothing", "[{verdict: dropped", "{verdict: dropped}", "[*a]", "5"])
      expect(() => loadConfig({ env: { FOVEA_FILTERS_EXCLUDE: text } })).toThrow(ConfigError);
  });

  test("an empty variable is not set; a misspelt one is named, those of Kubernetes are not", () => {
    expect(loadConfig({ env: { FOVEA_TICK: "" } }).tick).toBe(1000);
    const env = { FOVEA_TIKC: "1s", FOVEA_SERVICE_HOST: "a", FOVEA_PORT: "x", FOVEA_CONFIG: "f", HOME: "/" };
    expect(unknownVariables(env)).toEqual(["FOVEA_TIKC"]);
  });
});

describe("what is wrong", () => {
  test("is told all at once, each with file, line and key", () => {
    const file = write(
      [
        "tick: 5",
        "jsnl: {a: 1}",
        "store:",
        "  bytesMax: 12 apples",
        "  # a comment",
        "  rowsMax: 4",
        "node: 7",
      ].join("\n"),
    );
    const env = { FOVEA_FLOWS_MAX: "5", FOVEA_METRICS_NAMES: "kappie,foo", FOVEA_LISTEN: "nowhere" };
    const problems = problemsOf(() => loadConfig({ file, env, overrides: { tick: "9y" } }));
    expect(problems.map(({ file: where, line, key }) => [where, line, key])).toEqual([
      [file, 7, "node"],
      [file, 1, "tick"],
      [file, 4, "store.bytesMax"],
      [file, 6, "store.rowsMax"],
      [file, 2, "jsnl"],
      ["environment", undefined, "FOVEA_LISTEN (key listen)"],
      ["environment", undefined, "FOVEA_FLOWS_MAX (key flows.max)"],
      ["environment", undefined, "FOVEA_METRICS_NAMES_1 (key metrics.names.1)"],
      ["command line", undefined, "tick"],
    ]);
    expect(problems[6]?.message).toBe("is less than 1024");
    expect(problems[7]?.message).toBe("is one of kappie, networkobservability, fluentbit");
  });

  test.each([
    ["tick: 1s\ntick: 2s\n", [[2, ""]]],
    ["store: {bytesMax: 1GiB\n", [[2, ""]]],
    ["- tick\n", [[undefined, ""]]],
    ["tick: 1s\n---\ntick: 2s\n", [[2, ""]]],
    ["node: !secret x\n", [[1, ""]]],
    ["interfaces:\n  include:\n    - eth0\n    - 4\n", [[4, "interfaces.include.1"]]],
    ["interfaces: {uplinks: yes}\n", [[1, "interfaces.uplinks"]]],
    ["interfaces: {loopback: 'true'}\n", [[1, "interfaces.loopback"]]],
    ["store: 5\n", [[1, "store"]]],
    ["__proto__: {tick: 1s}\n", [[1, "__proto__"]]],
    ["tick: 99ms\n", [[1, "tick"]]],
    ["tick: 61s\n", [[1, "tick"]]],
    ["flows: {spillBytes: 3MiB}\n", [[1, "flows.spillBytes"]]],
    ["flows: {max: 2048.5}\n", [[1, "flows.max"]]],
    ["\nflows: {idle: 1m}\n", [[undefined, "flows.active"]]],
    ["api:\n  tls:\n    certFile: /c\n", [[3, "api.tls.certFile"]]],
    ["api: {tls: {keyFile: /k}}\n", [[1, "api.tls.keyFile"]]],
    ["api: {tls: {clientCaFile: /k}}\n", [[1, "api.tls.clientCaFile"]]],
    ["throttle:\n  throttle_rat: 5\n", [[2, "throttle.throttle_rat"]]],
    ["throttle: {mode: average}\n", [[1, "throttle.mode"]]],
    ["throttle: {reserve: 0.2}\n", [[1, "throttle.reserve"]]],
    ["throttle: {reserve: 101%}\n", [[1, "throttle.reserve"]]],
    ["filters:\n  include:\n    - verdict: dropped\n      prot: 53\n", [[4, "filters.include.0.prot"]]],
    ["filters:\n  exclude:\n    - {}\n", [[3, "filters.exclude.0"]]],
    ["samples: {step: 999ms}\n", [[1, "samples.step"]]],
    ["samples: {step: 301s}\n", [[1, "samples.step"]]],
    ["rollups: {minuteAgeMax: 59m}\n", [[1, "rollups.minuteAgeMax"]]],
    ["rollups: {hourAgeMax: 3651d}\n", [[1, "rollups.hourAgeMax"]]],
    ["flowLog: {bytesMax: 63KiB}\n", [[1, "flowLog.bytesMax"]]],
    ["flowLog: {bytesMax: 1025MiB}\n", [[1, "flowLog.bytesMax"]]],
    ["flowLog:\n  filesMax: 0\n", [[2, "flowLog.filesMax"]]],
  ] as const)("%j", (text, places) => {
    expect(placed(() => load(text))).toEqual(places.map(([line, key]) => [line, key]));
  });

  test("a file that cannot be read, or is no configuration by its size", () => {
    const absent = join(directory, "absent.yaml");
    expect(
      problemsOf(() => loadConfig({ file: absent, env: { FOVEA_TICK: "x" } })).map(({ file }) => file),
    ).toEqual([absent, "environment"]);
    expect(() => load(`# ${"x".repeat(2 ** 20)}`)).toThrow("has 1048578 bytes, more than 1048576");
  });

  test("an alias bomb is refused in no time", () => {
    const lines = ["a: &a [x,x,x,x,x,x,x,x,x]"];
    for (const [above, name] of ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"])
      lines.push(`${name}: &${name} [${Array(9).fill(`*${above}`).join(",")}]`);
    expect(() => load(lines.join("\n"))).toThrow(ConfigError);
  });
});

describe("printing", () => {
  test("has every key, and reads back as it was", () => {
    const config = load(
      [
        "listen: '[::1]:7'\ntick: 1500ms\nstore: {bytesMax: 64MB}\napi: {tokenFile: /etc/token}",
        "throttle: {reserve: 7%, throttle_rate: 12}\nrollups: {hourAgeMax: 25h}\nsamples: {step: 90s}",
        "filters: {include: [{to: {ip: '::/0', port: 1}, protocol: UDP}], exclude: [{reason: TCP_*}]}",
      ].join("\n"),
    );
    const text = printConfig(config);
    for (const { path } of configKeys()) expect(text).toContain(`${path.at(-1)}:`);
    expect(text).toContain('listen: "[::1]:7"');
    expect(text).toContain("bytesMax: 62500KiB");
    expect(text).toContain("clientCaFile: null");
    expect(text).toContain("reserve: 7%");
    expect(text).toContain("hourAgeMax: 25h");
    expect(text).toContain("step: 90s");
    expect(text).toContain("ageMax: 30d");
    expect(load(text)).toEqual(config);
  });

  test("never has what a secret file holds", () => {
    const token = join(directory, "token");
    writeFileSync(token, "0123456789abcdef-secret");
    expect(printConfig(load(`api: {tokenFile: ${token}}`))).not.toContain("0123456789abcdef");
  });
});
