// Real receivers take what the Remote-Write sink sends, give it back as it was, and say what they do not take.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { EncodedSeries } from "../../src/sinks/encoder.ts";
import { type Found, foundBy, programs, type Receiver, startReceiver } from "../receiver.rig.ts";
import type { SeriesSamples } from "../remote-write.rig.ts";

const now = Math.floor(Date.now() / 1000) * 1000;
const second = 1000;
const minute = 60_000;
const hour = 60 * minute;

const series = (name: string, labels: Record<string, string> = {}): EncodedSeries => ({ name, labels });
const one = (name: string, ...samples: SeriesSamples["samples"]): SeriesSamples => ({
  series: series(name),
  samples,
});
const external = { site: "Ålesund", instance: "edge-1", cluster: "site-a" };
const byName = (found: readonly Found[]) =>
  found.toSorted((a, b) => ((a.labels["__name__"] ?? "") < (b.labels["__name__"] ?? "") ? -1 : 1));

// VictoriaMetrics keeps decimals, all of a block with the same exponent.
const values = [1.5, 0, 2 ** 53, 2 ** 53 - 1, -7, 0.125, 123_456_789.5];
const special = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1];
const spaced = (all: readonly number[]) =>
  all.map((value, index) => [now - 2 * minute + index * second, value] as const);

for (const name of programs)
  describe(name, () => {
    let receiver: Receiver;
    beforeAll(async () => {
      receiver = await startReceiver(name);
    });
    afterAll(() => receiver[Symbol.asyncDispose]());

    test("gives back names, labels, times and values", async () => {
      const labels = { Reason: 'quote " and \\ and\nline', Zone: "日本", Empty: "" };
      const sent: SeriesSamples[] = [
        { series: series("values_a:b", labels), samples: spaced(values) },
        { series: series("values_c"), samples: spaced(special) },
      ];
      expect(await receiver.sink().send(sent)).toEqual({ kind: "stored", code: "204" });
      await foundBy(receiver, 'values_c{site="Ålesund"}[5m]', now);
      const found = byName(await receiver.query('{__name__=~"values_.*"}[5m]', now));
      const { Reason, Zone } = labels;
      expect(found).toEqual([
        { labels: { __name__: "values_a:b", Reason, Zone, ...external }, points: spaced(values) },
        { labels: { __name__: "values_c", ...external }, points: spaced(special) },
      ]);
    });

    test("ends a series at its stale marker, and only there", async () => {
      const ended = one("ended", [now - 90 * second, 1], [now - 60 * second, null]);
      const goesOn = one("goes_on", [now - 90 * second, 2]);
      const again = one("again", [now - 90 * second, 3], [now - 60 * second, null], [now - 30 * second, 4]);
      expect(await receiver.sink().send([ended, goesOn, again])).toMatchObject({ kind: "stored" });
      const at = async (time: number) => {
        const found = await receiver.query('{__name__=~"ended|goes_on|again"}', time);
        return byName(found).map(({ labels, points }) => [labels["__name__"], points[0]?.[1]]);
      };
      await foundBy(receiver, "again", now);
      expect(await at(now - 61 * second)).toEqual([
        ["again", 3],
        ["ended", 1],
        ["goes_on", 2],
      ]);
      expect(await at(now - 60 * second)).toEqual([["goes_on", 2]]);
      expect(await at(now - 30 * second)).toEqual([
        ["again", 4],
        ["goes_on", 2],
      ]);
      expect(await at(now)).toEqual([
        ["again", 4],
        ["goes_on", 2],
      ]);
    });

    test("takes a whole body of 2,000 series", async () => {
      const many = Array.from({ length: 2000 }, (_, index) => ({
        series: series("many", { number: String(index), parity: index % 2 === 0 ? "even" : "odd" }),
        samples: [[now - minute, index] as const],
      }));
      expect(await receiver.sink().send(many)).toMatchObject({ kind: "stored" });
      await foundBy(receiver, "count(many) == 2000", now);
      expect((await receiver.query('sum(many{parity="odd"})', now))[0]?.points[0]?.[1]).toBe(1_000_000);
    });

    test("knows no 2.0: the sink falls back, and nothing is lost", async () => {
      const sender = receiver.sink({ protocol: "2.0" });
      const sample = one("fallback", [now - minute, 5]);
      // Those of Debian 12 answer 204 and have stored nothing: only the missing header tells.
      expect(await sender.send([sample])).toMatchObject({
        kind: "reencode",
        code: expect.stringMatching(/^(204|415)$/),
      });
      expect(sender.sink.encoder("metrics").format).toBe("remote-write-1");
      expect(await sender.send([sample])).toEqual({ kind: "stored", code: "204" });
      const found = await foundBy(receiver, "fallback[5m]", now);
      expect(found.map(({ points }) => points)).toEqual([[[now - minute, 5]]]);
    });
  });

describe("Prometheus without a window", () => {
  let receiver: Receiver;
  beforeAll(async () => {
    receiver = await startReceiver("prometheus");
    await receiver.sink().send([one("known", [now - minute, 1], [now, 2])]);
  });
  afterAll(() => receiver[Symbol.asyncDispose]());

  test("keeps every NaN, every bit of a double and minus zero", async () => {
    const all = [Number.NaN, -0, 5e-324, Number.MAX_VALUE, -1 / 3];
    expect(await receiver.sink().send([one("doubles", ...spaced(all))])).toMatchObject({ kind: "stored" });
    const points = (await receiver.query("doubles[5m]", now))[0]?.points ?? [];
    expect(points.map(([, value]) => value)).toEqual(all);
    expect(Object.is(points[1]?.[1], -0)).toBe(true);
  });

  test("refuses what is out of order or another value of the same time, and says which", async () => {
    const { send } = receiver.sink();
    expect(await send([one("known", [now - 5 * second, 1])])).toEqual({
      ...{ kind: "refused", code: "400", reason: "too_old" },
      message: expect.stringMatching(/^HTTP 400: out of order sample/),
    });
    expect(await send([one("known", [now, 3])])).toEqual({
      ...{ kind: "refused", code: "400", reason: "too_old" },
      message: expect.stringMatching(/^HTTP 400: duplicate sample for timestamp/),
    });
    expect(await send([one("known", [now, 2])])).toMatchObject({ kind: "stored" });
  });

  test("refuses what is older than an hour, for series that are new to it as well", async () => {
    const { send, sink } = receiver.sink();
    expect(sink.capability("metrics").ageMaxMs).toBe(hour);
    expect(await send([one("new_a", [now - 59 * minute, 1])])).toMatchObject({ kind: "stored" });
    expect(await send([one("new_b", [now - 61 * minute, 1])])).toEqual({
      ...{ kind: "refused", code: "400", reason: "too_old" },
      message: expect.stringMatching(/^HTTP 400: out of bounds/),
    });
  });

  test("takes the rest of a body with one sample that it refuses when it comes alone", async () => {
    const { send } = receiver.sink();
    const [good, bad] = [one("beside_poison", [now, 1]), one("known", [now - 5 * second, 1])];
    expect(await send([good, bad])).toMatchObject({ kind: "refused" });
    // Prometheus 2.42 has kept nothing of it, others what came before the poison: the same again is no harm.
    expect(await send([good])).toMatchObject({ kind: "stored" });
    expect((await receiver.query("beside_poison", now)).length).toBe(1);
  });
});

describe("Prometheus with a window of 2 hours", () => {
  let receiver: Receiver;
  beforeAll(async () => {
    receiver = await startReceiver("prometheus", { outOfOrder: "2h" });
    await receiver.sink().send([one("known", [now, 2])]);
  });
  afterAll(() => receiver[Symbol.asyncDispose]());

  test("takes a backlog beside live data", async () => {
    const { send, sink } = receiver.sink({ limits: { outOfOrder: "2h" } });
    expect(sink.capability("metrics")).toMatchObject({ ageMaxMs: 2 * hour, outOfOrderMs: 2 * hour });
    const backlog = [now - 119 * minute, now - hour, now - minute].map((at) => [at, 1] as const);
    expect(await send([one("known", ...backlog)])).toMatchObject({ kind: "stored" });
    expect((await receiver.query("known[3h]", now))[0]?.points).toEqual([...backlog, [now, 2]]);
  });

  test("a sample from before the window ends as refused, not as a request that is sent for ever", async () => {
    expect(await receiver.sink().send([one("known", [now - 121 * minute, 1])])).toEqual({
      ...{ kind: "refused", reason: "too_old" },
      code: expect.stringMatching(/^(400|500)$/),
      message: expect.stringMatching(/^HTTP [45]00: too old sample/),
    });
  });
});

describe("VictoriaMetrics", () => {
  test("takes any order and any age within its retention", async () => {
    await using receiver = await startReceiver("victoria-metrics");
    const { send } = receiver.sink({ receiver: "victoriametrics" });
    const times = [now, now - hour, now - 10 * 24 * hour, now - minute];
    for (const at of times) expect(await send([one("late", [at, at])])).toMatchObject({ kind: "stored" });
    await foundBy(receiver, "count_over_time(late[11d]) == 4", now);
    const found = await receiver.query("late[11d]", now);
    expect(found[0]?.points).toEqual(times.toSorted((a, b) => a - b).map((at) => [at, at] as const));
  });
});
