// From rows to a scrape: both formats, bad rows, bounds, and what a client's Accept header chooses.

import { describe, expect, test } from "bun:test";
import { createExposition } from "../src/exposition.ts";
import { counter, gauge, histogram, kappieCounter, kappieGauge, type MetricRow } from "../src/metrics-row.ts";
import type { MetricView } from "../src/metrics-view.ts";

const view: MetricView = {
  nodeName: "node-1",
  cluster: "edge",
  node: { at: 0, state: {}, sections: {}, health: [] },
  build: { version: "0", commit: "0", bun: "0", os: "linux", arch: "x64" },
  process: { startedAt: 0, residentBytes: 0, cpuSeconds: 0 },
};

const ticks = counter({ name: "fovea_a_total", help: "A.", labels: [], read: () => [[{}, 3]] });
const forward = kappieCounter({
  name: "kappie_forward_count",
  help: "F.",
  labels: ["Direction"],
  read: () => [
    [{ Direction: "ingress" }, 2 ** 53 - 1],
    [{ Direction: "egress" }, 0],
  ],
});

const expositionOf = (table: readonly MetricRow[], seriesMax = 1000) =>
  createExposition({ names: [], seriesMax, table });
const openMetrics = "application/openmetrics-text;version=1.0.0";

/** The scrape without the families about the scrape itself. */
const bodyOf = async (table: readonly MetricRow[], accept?: string) => {
  const { body } = await expositionOf(table).render(view, accept);
  return body.split("\n").filter((line) => line !== "" && !line.includes("fovea_scrape_"));
};
const lost = (body: string) =>
  body.split("\n").filter((line) => line.startsWith("fovea_scrape_series_lost_total"));

describe("formats", () => {
  test("text has names, help, types and values to the letter", async () => {
    expect(await bodyOf([ticks, forward])).toEqual([
      "# HELP fovea_a_total A.",
      "# TYPE fovea_a_total counter",
      "fovea_a_total 3",
      "# HELP kappie_forward_count F.",
      "# TYPE kappie_forward_count counter",
      'kappie_forward_count{Direction="ingress",NodeName="node-1",Cluster="edge"} 9007199254740991',
      'kappie_forward_count{Direction="egress",NodeName="node-1",Cluster="edge"} 0',
    ]);
  });

  test("OpenMetrics has the same series: named counters are unknown there, ours end in _total", async () => {
    expect(await bodyOf([ticks, forward], openMetrics)).toEqual([
      "# HELP fovea_a A.",
      "# TYPE fovea_a counter",
      "fovea_a_total 3",
      "# HELP kappie_forward_count F.",
      "# TYPE kappie_forward_count unknown",
      'kappie_forward_count{Direction="ingress",NodeName="node-1",Cluster="edge"} 9007199254740991',
      'kappie_forward_count{Direction="egress",NodeName="node-1",Cluster="edge"} 0',
      "# EOF",
    ]);
  });

  test("both name every series alike, whatever was asked before", async () => {
    const exposition = expositionOf([ticks, forward]);
    const names = (body: string) => body.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    const text = names((await exposition.render(view)).body);
    const [open, again] = await Promise.all([exposition.render(view, openMetrics), exposition.render(view)]);
    expect(names(open.body)).toEqual(text);
    expect(names(again.body)).toEqual(text);
  });

  test("series that come, go and change between scrapes are those of the scrape, under the node's name of then", async () => {
    let samples: [{ Direction: string }, number][] = [];
    const row = kappieGauge({ name: "kappie_x", help: "X.", labels: ["Direction"], read: () => samples });
    const exposition = expositionOf([row]);
    const shown = async (nodeName: string, ...values: [string, number][]) => {
      samples = values.map(([Direction, value]) => [{ Direction }, value]);
      const { body } = await exposition.render({ ...view, nodeName });
      return body.split("\n").filter((line) => line.startsWith("kappie_x{"));
    };
    const line = (direction: string, nodeName: string, value: number) =>
      `kappie_x{Direction="${direction}",NodeName="${nodeName}",Cluster="edge"} ${value}`;
    expect(await shown("a", ["in", 1], ["out", 2])).toEqual([line("in", "a", 1), line("out", "a", 2)]);
    expect(await shown("a", ["out", 3], ["new", 4])).toEqual([line("out", "a", 3), line("new", "a", 4)]);
    expect(await shown("a", ["out", 7], ["new", 8])).toEqual([line("out", "a", 7), line("new", "a", 8)]);
    expect(await shown("b", ["out", 5], ["in", 6])).toEqual([line("out", "b", 5), line("in", "b", 6)]);
  });

  test("a histogram has its bounds, infinity, sum and count", async () => {
    const latency = histogram({
      name: "fovea_l_seconds",
      help: "L.",
      labels: [],
      read: () => [[{}, { bounds: [0.001, 0.25], counts: [1, 4], sum: 1.5, count: 6 }]],
    });
    expect(await bodyOf([latency])).toEqual([
      "# HELP fovea_l_seconds L.",
      "# TYPE fovea_l_seconds histogram",
      'fovea_l_seconds_bucket{le="0.001"} 1',
      'fovea_l_seconds_bucket{le="0.25"} 4',
      'fovea_l_seconds_bucket{le="+Inf"} 6',
      "fovea_l_seconds_sum 1.5",
      "fovea_l_seconds_count 6",
    ]);
  });

  test("a label cannot break its line, whatever is in it", async () => {
    const row = kappieGauge({
      name: "kappie_x",
      help: "X.",
      labels: ["Address"],
      read: () => [[{ Address: 'a"b\\c\nd{}=,é' }, 1]],
    });
    expect((await bodyOf([row])).at(-1)).toBe(
      'kappie_x{Address="a\\"b\\\\c\\nd{}=,é",NodeName="node-1",Cluster="edge"} 1',
    );
  });

  test("a family without series is not in the scrape", async () => {
    const empty = gauge({ name: "fovea_e", help: "E.", labels: [], read: () => [] });
    expect(await bodyOf([empty])).toEqual([]);
  });
});

describe("the Accept header", () => {
  const text = "text/plain; version=0.0.4; charset=utf-8";
  const open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
  test.each([
    [undefined, text],
    [null, text],
    ["", text],
    ["*/*", text],
    ["text/html,application/xhtml+xml,*/*;q=0.8", text],
    ["application/openmetrics-text", open],
    ["application/openmetrics-text;q=0", text],
    ["application/openmetrics-text;q=0.3,text/plain;q=0.5", text],
    ["application/openmetrics-textual", text],
    [
      "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
      open,
    ],
    ["text/plain;version=0.0.4;q=0.5,*/*;q=0.1", text],
  ] as const)("%j", async (accept, contentType) => {
    expect((await expositionOf([ticks]).render(view, accept)).contentType).toBe(contentType);
  });
});

describe("what cannot be scraped", () => {
  test("a row that throws is missing alone, at the first value or a later one, and is counted", async () => {
    const broken = gauge({
      name: "fovea_broken",
      help: "B.",
      labels: ["a"],
      *read() {
        yield [{ a: "1" }, 1];
        throw new Error("read x", { cause: new Error("EIO") });
      },
    });
    const exposition = expositionOf([broken, ticks]);
    await exposition.render(view);
    const { body } = await exposition.render(view);
    expect(body).toContain("fovea_a_total 3");
    expect(body).not.toContain("fovea_broken{");
    expect(body).toContain('fovea_scrape_families_failed_total{family="fovea_broken"} 2');
    expect(body).toContain("fovea_scrape_series 1\n");
    expect([...exposition.failures()]).toEqual([["fovea_broken", "read x: EIO"]]);
  });

  test("a value that is no number, or labels that come twice: the series is left out and counted", async () => {
    const odd = gauge({
      name: "fovea_odd",
      help: "O.",
      labels: ["a", "b"],
      read: () => [
        [{ a: "1", b: "2" }, 1],
        [{ a: "1", b: "2" }, 2],
        [{ a: "nan", b: "" }, Number.NaN],
        [{ a: "inf", b: "" }, Number.POSITIVE_INFINITY],
        [{ a: "12", b: "" }, 3],
      ],
    });
    const { body } = await expositionOf([odd]).render(view);
    expect(body.split("\n").filter((line) => line.startsWith("fovea_odd{"))).toEqual([
      'fovea_odd{a="1",b="2"} 1',
      'fovea_odd{a="12",b=""} 3',
    ]);
    expect(lost(body)).toEqual([
      'fovea_scrape_series_lost_total{family="fovea_odd",reason="duplicate"} 1',
      'fovea_scrape_series_lost_total{family="fovea_odd",reason="not_finite"} 2',
    ]);
  });

  test("series past the bound are counted by family, and the last families give way first", async () => {
    const many = (name: `fovea_${string}`, count: number) =>
      gauge({
        name,
        help: "M.",
        labels: ["i"],
        *read() {
          for (let index = 0; index < count; index += 1) yield [{ i: String(index) }, index];
        },
      });
    const exposition = expositionOf([ticks, many("fovea_m", 5), many("fovea_n", 100)], 10);
    const { body } = await exposition.render(view);
    const shown = (name: string) => body.split("\n").filter((line) => line.startsWith(`${name}{`)).length;
    expect([shown("fovea_m"), shown("fovea_n")]).toEqual([5, 4]);
    expect(body).toContain("fovea_scrape_series 10\n");
    expect(body).toContain("fovea_scrape_series_limit 10\n");
    expect(lost(body)).toEqual(['fovea_scrape_series_lost_total{family="fovea_n",reason="limit"} 96']);
    expect(lost((await exposition.render(view)).body)[0]).toEndWith(" 192");
  });

  test("a histogram stands whole or not at all", async () => {
    const latency = histogram({
      name: "fovea_l_seconds",
      help: "L.",
      labels: ["a"],
      read: () =>
        ["x", "y"].map((a) => [{ a }, { bounds: [1, 2], counts: [0, 0], sum: 0, count: 0 }] as const),
    });
    const { body } = await expositionOf([latency], 9).render(view);
    expect(body).toContain('fovea_l_seconds_bucket{a="x",le="1"} 0');
    expect(body).toContain('fovea_l_seconds_count{a="x"} 0');
    expect(body).not.toContain('a="y"');
    expect(lost(body)[0]).toEndWith('{family="fovea_l_seconds",reason="limit"} 5');
  });

  test("a label of any length is cut", async () => {
    const row = gauge({
      name: "fovea_x",
      help: "X.",
      labels: ["a"],
      read: () => [[{ a: "x".repeat(10_000) }, 1]],
    });
    expect((await bodyOf([row])).at(-1)).toBe(`fovea_x{a="${"x".repeat(256)}"} 1`);
  });
});

describe("the series of a scrape", () => {
  const remotes = kappieGauge({
    name: "kappie_x",
    help: "X.",
    labels: ["Address"],
    *read({ node }) {
      for (let index = 0; index < 5 + (node.at % 3); index += 1)
        yield [{ Address: `"${index}\\\n` }, index + node.at];
    },
  });
  const latency = histogram({
    name: "fovea_l_seconds",
    help: "L.",
    labels: ["a"],
    read: () => [[{ a: "x" }, { bounds: [0.001, 0.25], counts: [1, 4], sum: 1.5, count: 6 }]],
  });
  const odd = gauge({
    name: "fovea_odd",
    help: "O.",
    labels: ["a"],
    read: () => [
      [{ a: "1" }, Number.NaN],
      [{ a: "2" }, 1],
      [{ a: "2" }, 2],
    ],
  });
  const broken = gauge({
    name: "fovea_broken",
    help: "B.",
    labels: [],
    read: () => {
      throw new Error("no");
    },
  });
  const table = [ticks, broken, remotes, latency, odd];
  const at = (now: number): MetricView => ({ ...view, node: { ...view.node, at: now } });

  test("are those of the scrape, each with all of its labels", async () => {
    const exposition = expositionOf(table, 16);
    for (const now of [1, 2, 3, 4]) {
      const shown = (await exposition.render(at(now))).body.split("\n");
      // What the text of the series would be, in a table where each is a family of its own.
      const escaped = (text: string) => JSON.stringify(text);
      const lines = exposition.series(at(now)).map(({ name, labels, value }) => {
        const pairs = Object.entries(labels).map(([label, text]) => `${label}=${escaped(text)}`);
        return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}`;
      });
      expect(lines).toEqual(shown.filter((line) => line !== "" && !line.startsWith("#")));
      expect(lines).toContain('fovea_l_seconds_bucket{a="x",le="+Inf"} 6');
      expect(lines).toContain(`fovea_scrape_families_failed_total{family="fovea_broken"} ${now}`);
    }
  });

  test("do not change a scrape, however often they are asked for", async () => {
    const [asked, unasked] = [expositionOf(table, 16), expositionOf(table, 16)];
    for (const now of [1, 2, 3, 4]) {
      for (let count = 0; count < 3; count += 1) asked.series(at(now + count));
      for (const accept of [undefined, openMetrics])
        expect(await asked.render(at(now), accept)).toEqual(await unasked.render(at(now), accept));
      expect([...asked.failures()]).toEqual([...unasked.failures()]);
    }
  });

  test("are no scrape: what is left out of them alone is not counted", () => {
    const exposition = expositionOf(table, 2);
    for (let count = 0; count < 3; count += 1) exposition.series(view);
    const names = exposition.series(view).map(({ name }) => name);
    expect(names).toEqual(["fovea_a_total", "kappie_x", "fovea_scrape_series", "fovea_scrape_series_limit"]);
    expect(exposition.failures().size).toBe(0);
  });
});
