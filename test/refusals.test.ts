// What becomes of bodies that a receiver will not take, by the reason that it gives.

import { expect, test } from "bun:test";
import { createRefusals, lateMax, ofSeriesMax } from "../src/forward/refusals.ts";

const body = (records: number, series?: number) => ({ records, ...(series === undefined ? {} : { series }) });

test("a body is halved until the poison is alone; then it is rejected, and bodies grow again", () => {
  const refusals = createRefusals();
  expect(refusals.refused("backlog", body(8), "4xx")).toBe("halve");
  expect(refusals.extent("backlog", 8)).toEqual({ recordsMax: 4, oneSeries: false });
  expect(refusals.refused("backlog", body(4), "4xx")).toBe("halve");
  expect(refusals.refused("backlog", body(2), "4xx")).toBe("halve");
  expect(refusals.extent("backlog", 8)).toMatchObject({ recordsMax: 1 });
  expect(refusals.refused("backlog", body(1), "4xx")).toBe("reject");
  refusals.stored("backlog", 1);
  expect(refusals.extent("backlog", 8)).toMatchObject({ recordsMax: 2 });
  expect(refusals.extent("live", 8)).toMatchObject({ recordsMax: 8 });
});

test("a server that fails at everything costs no record, one that fails at one record costs that one", () => {
  const refusals = createRefusals();
  expect(refusals.refused("backlog", body(2), "server")).toBe("halve");
  for (let times = 0; times < 100; times += 1)
    expect(refusals.refused("backlog", body(1), "server")).toBe("keep");
  refusals.stored("live", 5);
  expect(refusals.refused("backlog", body(1), "server")).toBe("reject");
});

test("what was taken before the trouble began proves nothing", () => {
  const refusals = createRefusals();
  refusals.stored("live", 5);
  expect(refusals.refused("live", body(1), "server")).toBe("keep");
});

/** So many samples of a series are refused alone. */
function single(refusals: ReturnType<typeof createRefusals>, times: number, series: number, reason = "4xx") {
  for (let number = 0; number < times; number += 1)
    expect(refusals.refused("live", body(1, series), reason)).toBe("reject");
}

test("a series of which some were refused alone is given up as far as its unit goes, and no other", () => {
  const refusals = createRefusals();
  single(refusals, ofSeriesMax - 1, 5);
  expect(refusals.extent("live", 100)).toMatchObject({ oneSeries: false });
  single(refusals, 1, 5);
  expect(refusals.extent("live", 100)).toEqual({ recordsMax: 100, oneSeries: true });
  expect(refusals.givesUp("live", body(12, 5), true)).toBe(true);
  refusals.gaveUp("live", body(12, 5));
  expect(refusals.extent("live", 100)).toMatchObject({ oneSeries: false });
  single(refusals, ofSeriesMax, 6);
  expect(refusals.givesUp("live", body(12, 7), true)).toBe(false);
  single(refusals, ofSeriesMax, 8);
  expect(refusals.givesUp("live", body(12, 8), false)).toBe(false);
});

test("what is refused for its time costs nothing else, however much of it there is up to some bodies", () => {
  const refusals = createRefusals();
  single(refusals, lateMax, 5, "too_old");
  expect(refusals.givesUp("live", body(1, 5), true)).toBe(false);
  single(refusals, ofSeriesMax, 5, "too_old");
  expect(refusals.givesUp("live", body(9, 5), true)).toBe(true);
});

test("a receiver that refuses everything for its time is not asked slowly: it takes what is new", () => {
  const refusals = createRefusals();
  let unsent = 0;
  for (let asked = 0; asked < 3 * lateMax; asked += 1) {
    const { recordsMax } = refusals.extent("live", 2000);
    if (refusals.givesUp("live", body(recordsMax), true)) {
      refusals.gaveUp("live", body(recordsMax));
      unsent += recordsMax;
    } else expect(refusals.refused("live", body(1), "too_old")).toBe("reject");
  }
  expect(unsent).toBeGreaterThan(100 * lateMax);
});
