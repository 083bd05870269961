// The configuration of sinks: what is wrong is told with file, line and key; what is printed may be given again.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ConfigError, type ConfigProblem, loadConfig, printConfig } from "../src/config.ts";
import { findSinkProblems, loadSettings } from "../src/settings.ts";
import { signalsOf } from "../src/sinks/config.ts";
import { sinksMax, sinkTypes } from "../src/sinks/schema.ts";
import { runFovea } from "./cli.world.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fovea-sink-config-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const write = (text: string, name = "fovea.yaml"): string => {
  writeFileSync(join(directory, name), text, { mode: 0o600 });
  return join(directory, name);
};
const load = (text: string, env: Record<string, string> = {}) => loadConfig({ file: write(text), env }).sinks;

function problemsOf(run: () => unknown): readonly ConfigProblem[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error("no problem was found");
}

/** `lines` stand in a sink that is right but for them: the first is line 5. */
const sink = (...lines: readonly string[]): string =>
  [
    "sinks:",
    "  - name: up",
    "    type: otlp",
    "    url: https://up.example",
    ...lines.map((line) => `    ${line}`),
  ]
    .join("\n")
    .concat("\n");
/** A whole sink a line, on lines 2 and on. */
const list = (...sinks: readonly string[]): string =>
  `sinks:\n${sinks.map((one) => `  - {${one}}\n`).join("")}`;

const web = (name: string, type = "loki"): string => `name: ${name}, type: ${type}, url: "http://${name}"`;

describe("a sink", () => {
  test("has defaults for all but name, type and where to", () => {
    expect(load(list(web("a", "remote-write")))).toEqual([
      {
        name: "a",
        enabled: true,
        filter: { include: [], exclude: [], metrics: [] },
        externalLabels: {},
        schedule: { every: 5000, windows: [], backlogWindows: [], timeZone: "UTC" },
        pace: { bytesPerSecond: 0, liveShare: 0.7 },
        // No reach is set: each type knows what its receivers take.
        limits: { recordsMax: 0, bytesMax: 0 },
        start: "oldest",
        url: "http://a",
        timeout: 30_000,
        headers: {},
        auth: {},
        tls: {},
        proxy: "env",
        type: "remote-write",
        receiver: "prometheus",
        protocol: "1.0",
      },
    ]);
  });

  test("may leave sections empty, but no term of a rule", () => {
    const [first] = load(sink("tls:", "auth: {entra: {tenantId: }}", "filter:", "limits: {ageMax: ~}"));
    expect(first).toMatchObject({ tls: {}, auth: { entra: { kind: "managed" } }, limits: { recordsMax: 0 } });
    expect(() => load(sink("filter: {include: [{ip: }]}"))).toThrow("sinks.0.filter.include.0.ip.0");
  });

  test("takes any reach, or one in the form of a duration", () => {
    const [first] = load(sink("limits: {ageMax: any, outOfOrder: 0s, spanMax: 29m}"));
    expect(first?.limits).toMatchObject({
      ageMax: Number.POSITIVE_INFINITY,
      outOfOrder: 0,
      spanMax: 1_740_000,
    });
  });

  test("names once what it forwards", () => {
    expect(load(sink("signals: [metrics, flows, metrics]")).map(signalsOf)).toEqual([["metrics", "flows"]]);
    expect(load(list(web("a"), web("b", "remote-write"))).map(signalsOf)).toEqual([["flows"], ["metrics"]]);
  });
});

describe("what is wrong with one sink", () => {
  const key = (line: number | undefined, path: string, message: string | RegExp) =>
    [line, path, message] as const;
  test.each([
    [sink("url2: x"), key(5, "sinks.0.url2", "is no key of the configuration")],
    [sink("tls:", "  caFiles: /x"), key(6, "sinks.0.tls.caFiles", "is no key of the configuration")],
    [sink("receiver: mimir"), key(5, "sinks.0.receiver", "is no key of the configuration")],
    [
      sink("auth:", "  basic:", "    user: me"),
      key(6, "sinks.0.auth.basic.passwordFile", "is the path of a file"),
    ],
    [sink("timeout: 30"), key(5, "sinks.0.timeout", /^is a duration with a unit/)],
    [sink("schedule:", "  every: 99ms"), key(6, "sinks.0.schedule.every", "99ms is not from 100ms to 1h")],
    [
      sink("schedule:", "  windows:", '    - "22-06"'),
      key(7, "sinks.0.schedule.windows.0", /^is no window: write/),
    ],
    [
      sink("schedule:", '  backlogWindows: ["22:00-06:00", "noon"]'),
      key(6, "sinks.0.schedule.backlogWindows.1", /^is no window: write/),
    ],
    [sink("schedule: {timeZone: Berlin}"), key(5, "sinks.0.schedule.timeZone", /^is no time zone/)],
    [sink("pace:", "  liveShare: 0.7"), key(6, "sinks.0.pace.liveShare", /^is a share with its sign/)],
    [sink("limits:", "  ageMax: 2"), key(6, "sinks.0.limits.ageMax", /^is a duration .*, or any$/)],
    [sink("limits:", "  ageMax: never"), key(6, "sinks.0.limits.ageMax", /^"never" is neither a duration/)],
    [sink("limits:", "  spanMax: 9999d"), key(6, "sinks.0.limits.spanMax", /^9999d is more than 3650d/)],
    [sink("externalLabels:", "  __x: y"), key(6, "sinks.0.externalLabels.__x", /^begins with __/)],
    [sink("externalLabels:", "  a-b: y"), key(6, "sinks.0.externalLabels.a-b", /^is no name of a label/)],
    [
      sink("externalLabels:", "  site: 7"),
      key(6, "sinks.0.externalLabels.site", /^is the value of a label, as text/),
    ],
    [sink("externalLabels:", "  a: x", "  A: x"), key(7, "sinks.0.externalLabels.A", /in case alone$/)],
    [sink("headers:", "  Authorization: x"), key(6, "sinks.0.headers.Authorization", /belong into auth$/)],
    [
      sink("headers:", "  X-Api-Key: abc"),
      key(6, "sinks.0.headers.X-Api-Key", /^sounds like a secret, which belongs into a file/),
    ],
    [sink("headers:", '  X-A: "b\\nc"'), key(6, "sinks.0.headers.X-A", "is no value of a header")],
    [
      sink("filter:", "  exclude:", "    - {}"),
      key(7, "sinks.0.filter.exclude.0", /^names nothing to match/),
    ],
    [sink("filter: {metrics: kappie_*}"), key(5, "sinks.0.filter.metrics", /^is a list of patterns/)],
    [sink("signals: []"), key(5, "sinks.0.signals", /^names nothing/)],
    [sink("signals:", "  - logs"), key(6, "sinks.0.signals.0", "is flows or metrics")],
    [
      sink("proxy: proxy.example"),
      key(5, "sinks.0.proxy", /^is neither env nor none, and as a URL "proxy.example" is no URL/),
    ],
    [list(web("UP")), key(2, "sinks.0.name", /^is no name: small letters/)],
    [list(web("a", "kafka")), key(2, "sinks.0.type", `is not one of ${sinkTypes.join(", ")}`)],
    [list("name: a"), key(2, "sinks.0.type", `is not one of ${sinkTypes.join(", ")}`)],
    [list("name: a, type: loki"), key(2, "sinks.0.url", "is a URL, as text")],
    [list("name: a, type: file"), key(2, "sinks.0.directory", "is the path of a directory")],
    [list(`${web("a", "azure-logs")}, ruleId: abc`), key(2, "sinks.0.ruleId", "is no immutable id: dcr-...")],
    ["sinks:\n  - up\n", key(2, "sinks.0", "is no sink: a section with name, type and more")],
    ["sinks: {name: a}\n", key(1, "sinks", "is a list of sinks")],
  ] as const)("%j", (text, [line, path, message]) => {
    const problems = problemsOf(() => load(text));
    expect(problems.map((problem) => [problem.line, problem.key])).toEqual([[line, path]]);
    expect(problems[0]?.message).toMatch(message);
    expect(problems[0]?.file).toBe(join(directory, "fovea.yaml"));
  });

  test.each([
    ["https//up.example", /^"https\/\/up.example" is no URL; write/],
    ["up.example/push", /^"up.example\/push" is no URL; write/],
    ["ftp://up.example", /^has the scheme ftp; a sink's URL is http or https$/],
    ["https://me:hush@up.example", /^holds a user or a password; set auth\.basic/],
    ["https://me@up.example", /^holds a user or a password/],
    ["ftp://me:hush@up.example", /^holds a user or a password/],
    ["https://me:hu/sh@up.example", /^"https:\/\/\(hidden\)@up.example" is no URL/],
    ["https://me:hu/s@h@up.example:port", /^"https:\/\/\(hidden\)@up.example:port" is no URL/],
    ["me:hush@up.example", /^has no scheme; write/],
    ["me:hush@", /^has no scheme/],
    ["https://up example?token=hush", /^"https:\/\/up example\?\.\.\." is no URL/],
    ["https://up.example/#hush", /^has a fragment/],
    [
      "https://up.example/x?a=b&sig=hush",
      /^has "sig" in its query, which sounds like a secret; .*auth.apiKey/,
    ],
    ["https://up.example/?Access_Token=hush", /^has "Token" in its query/],
    ["https://up.example/?AWSAccessKeyId=hush", /^has "Key" in its query/],
    ["https://up.example/?key-hush", /^has "key" in its query/],
  ])("URL %j, and no secret is shown", (url, message) => {
    for (const name of ["url", "proxy"] as const) {
      const text = list(
        `name: a, type: loki, ${name === "url" ? "" : "url: http://x, "}${name}: ${JSON.stringify(url)}`,
      );
      const problems = problemsOf(() => load(text));
      expect(problems.map((problem) => [problem.line, problem.key])).toEqual([[2, `sinks.0.${name}`]]);
      const told = problems[0]?.message.replace("is neither env nor none, and as a URL ", "") ?? "";
      expect(told).toMatch(message);
      expect(new ConfigError(problems).message).not.toMatch(/hush|hu\/s|s@h/);
    }
  });

  test("is told all at once", () => {
    const text = `${sink("timeout: 1", "tls: {ca: x}")}  - {name: b, type: loki, url: x}\n`;
    expect(problemsOf(() => load(text)).map(({ line, key: path }) => [line, path])).toEqual([
      [5, "sinks.0.timeout"],
      [6, "sinks.0.tls.ca"],
      [7, "sinks.1.url"],
    ]);
  });
});

describe("what is wrong between sinks", () => {
  const divert = (to: string) => `, divertTo: ${to}`;
  test.each([
    [list(web("a"), web("b"), web("a")), [[4, "sinks.2.name", '"a" is the name of sinks.0 already']]],
    [list(web("a") + divert("c"), web("b")), [[2, "sinks.0.divertTo", '"c" is no name of a sink']]],
    [list(web("a") + divert("a")), [[2, "sinks.0.divertTo", "is this sink itself"]]],
    [
      list(web("a") + divert("b"), web("b") + divert("c"), web("c")),
      [[2, "sinks.0.divertTo", '"b" itself diverts to "c"; a sink that others divert to cannot']],
    ],
    [
      list(web("a") + divert("b"), web("b") + divert("a")),
      [
        [2, "sinks.0.divertTo", '"b" itself diverts to "a"; a sink that others divert to cannot'],
        [3, "sinks.1.divertTo", '"a" itself diverts to "b"; a sink that others divert to cannot'],
      ],
    ],
    [
      list(web("a", "remote-write") + divert("b"), web("b")),
      [[2, "sinks.0.divertTo", '"b" takes flows, this sink has metrics']],
    ],
    [
      list(web("a") + divert("b"), `${web("b")}, enabled: false`),
      [[2, "sinks.0.divertTo", '"b" is not enabled']],
    ],
  ] as const)("%j", (text, wanted) => {
    const problems = problemsOf(() => load(text));
    expect(problems.map(({ line, key, message }) => [line, key, message])).toEqual(wanted as never);
  });

  test("two may divert to one, and a sink that is off to one that is off", () => {
    const fed = "name: c, type: file, directory: /x";
    expect(load(list(web("a") + divert("c"), web("b", "remote-write") + divert("c"), fed))).toHaveLength(3);
    const off = ", enabled: false";
    expect(load(list(web("a") + divert("c") + off, fed + off))).toHaveLength(2);
  });

  test("there are not too many", () => {
    const many = (count: number) => list(...Array.from({ length: count }, (_, at) => web(`s${at}`)));
    expect(load(many(sinksMax))).toHaveLength(sinksMax);
    const [problem] = problemsOf(() => load(many(sinksMax + 1)));
    expect([problem?.key, problem?.message]).toEqual(["sinks", `has more than ${sinksMax} sinks`]);
  });
});

describe("the environment", () => {
  test("FOVEA_SINKS takes YAML or JSON, and replaces the list of the file", () => {
    const yaml = `- name: env\n  type: loki\n  url: http://env\n`;
    const json = '[{"name": "env", "type": "loki", "url": "http://env"}]';
    for (const text of [yaml, json])
      expect(load(list(web("a"), web("b")), { FOVEA_SINKS: text }).map(({ name }) => name)).toEqual(["env"]);
    expect(load(list(web("a")), { FOVEA_SINKS: "[]" })).toEqual([]);
    expect(load(list(web("a")), { FOVEA_SINKS: "" })).toHaveLength(1);
  });

  test.each([
    ["up", "FOVEA_SINKS_0 (key sinks.0)", /^is no sink/],
    ["[{name: a, type: x}]", "FOVEA_SINKS_0_TYPE (key sinks.0.type)", /^is not one of remote-write/],
    ["[{name: a", "FOVEA_SINKS (key sinks)", /^is not the YAML that is expected/],
    ['[{"name": "a", "type": "loki", "url": 5}]', "FOVEA_SINKS_0_URL (key sinks.0.url)", /^is a URL/],
    [
      "- {name: a, type: loki, url: http://x, tls: {ca: y}}",
      "FOVEA_SINKS_0_TLS_CA (key sinks.0.tls.ca)",
      /^is no key/,
    ],
  ] as const)("%j", (text, key, message) => {
    const problems = problemsOf(() => loadConfig({ env: { FOVEA_SINKS: text } }));
    expect(problems.map((problem) => [problem.file, problem.key])).toEqual([["environment", key]]);
    expect(problems[0]?.message).toMatch(message);
  });
});

const everyType = [
  "name: r, type: remote-write, url: http://r, receiver: mimir, protocol: '2.0', limits: {outOfOrder: any}",
  "name: z, type: azure-logs, url: http://z, ruleId: dcr-1, auth: {entra: {kind: secret, secretFile: /s}}",
  "name: o, type: otlp, url: http://o, signals: [flows], tls: {caFile: /c}, proxy: http://p:1, divertTo: f",
  "name: l, type: loki, url: http://l, tenant: t, headers: {X-A: '1'}, filter: {exclude: [{port: 22}]}",
  "name: f, type: file, directory: /d, compress: false, externalLabels: {n: '7', yes: 'no'}",
];

describe("printing", () => {
  test("has every key of every type, and reads back as it was", () => {
    const { sinks } = loadConfig({ file: write(list(...everyType)), env: {} });
    expect(new Set(sinks.map(({ type }) => type))).toEqual(new Set(sinkTypes));
    const text = printConfig(loadConfig({ file: write(list(...everyType)), env: {} }));
    expect(load(text)).toEqual(sinks);
    expect(printConfig(loadConfig({ file: write(text), env: {} }))).toBe(text);
    for (const line of [
      "outOfOrder: any",
      "ageMax: null",
      "every: 5s",
      "bytesPerSecond: 0B",
      "liveShare: 70%",
    ])
      expect(text).toContain(`      ${line}\n`);
    for (const line of [
      "timeout: 30s",
      "fileBytesMax: 16MiB",
      "totalMax: 1GiB",
      "fileAgeMax: 1h",
      "tenant: t",
    ])
      expect(text).toContain(`    ${line}\n`);
  });

  test("loses nothing of any duration, size or share", () => {
    const ms = fc.integer({ min: 1000, max: 3_600_000 });
    fc.assert(
      fc.property(ms, fc.nat(2 ** 36), fc.nat(1000), fc.option(fc.nat(1e9)), (time, size, share, reach) => {
        const age = reach === null ? "any" : `${reach}ms`;
        const one = `timeout: ${time}ms, pace: {bytesPerSecond: ${Math.min(size, 2 ** 33)}, liveShare: ${share / 10}%}`;
        const env = { FOVEA_SINKS: `[{${web("a")}, ${one}, limits: {ageMax: ${age}}}]` };
        const config = loadConfig({ env });
        expect(load(printConfig(config))).toEqual(config.sinks);
      }),
      { numRuns: 50 },
    );
  });

  test("as JSON has no limit as any", async () => {
    const { out } = await runFovea(["config", "print", "-o", "json", "-c", write(list(...everyType))]);
    expect(JSON.parse(out).sinks[0].limits).toEqual({ outOfOrder: "any", recordsMax: 0, bytesMax: 0 });
  });
});

describe("files that a sink names", () => {
  const broken = (rest = "") =>
    sink(
      "tls:",
      `  caFile: ${join(directory, "absent.pem")}`,
      "auth:",
      `  bearerFile: ${join(directory, "no")}${rest}`,
    );

  test("are told by check with file, line and key", async () => {
    const file = write(broken());
    const { code, out, err } = await runFovea(["config", "check", "-c", file]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    const lines = err.trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    expect(lines[0]).toStartWith(`fovea: ${file}:6: sinks.0.tls.caFile `);
    expect(lines[0]).toContain("absent.pem");
    expect(lines[1]).toContain(`${file}:8: sinks.0.auth.bearerFile `);
  });

  test("do not refuse a start, nor a sink that is off a check", async () => {
    const file = write(broken());
    expect(loadSettings({ file, env: {}, starting: true }).config.sinks).toHaveLength(1);
    expect(loadSettings({ file, env: {}, starting: false }).rejected).toEqual([]);
    const off = write(broken("\n    enabled: false"));
    expect(findSinkProblems({ file: off, env: {} })).toEqual([]);
    expect(await runFovea(["config", "check", "-c", off])).toMatchObject({ code: 0, out: `${off}: right\n` });
  });

  test("are told of each sink, and what a key that is missing would be: the nearest line", () => {
    const token = write("not-a-token\n", "token");
    const file = write(
      [
        ...[
          "sinks:",
          "  - name: a",
          "    type: loki",
          "    url: https://a",
          "    auth: {entra: {kind: secret}}",
        ],
        ...["  - name: b", "    type: loki", "    url: https://b", "    auth:", "      entra:"],
        ...[
          "        kind: workload",
          "        tenantId: t",
          "        clientId: c",
          `        tokenFile: ${token}x`,
        ],
      ].join("\n"),
    );
    const told = findSinkProblems({ file, env: {} }).map(({ line, key }) => [line, key]);
    expect(told).toEqual([
      [5, "sinks.0.auth.entra.tenantId"],
      [5, "sinks.0.auth.entra.clientId"],
      [5, "sinks.0.auth.entra.secretFile"],
      [14, "sinks.1.auth.entra.tokenFile"],
    ]);
    const [first] = findSinkProblems({ env: { FOVEA_SINKS: `[{${web("a")}, tls: {caFile: /absent.pem}}]` } });
    expect(first).toMatchObject({
      file: "environment",
      key: "FOVEA_SINKS_0_TLS_CA_FILE (key sinks.0.tls.caFile)",
    });
  });
});
