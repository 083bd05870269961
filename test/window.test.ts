// Windows of time: what may be written, and when they are open by the clock of a time zone.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isOpen, parseWindow, type Window } from "../src/forward/window.ts";

const everyDay = [0, 1, 2, 3, 4, 5, 6];
const windows = (...texts: readonly string[]): readonly Window[] =>
  texts.map((text) => {
    const window = parseWindow(text);
    if (window === undefined) throw new Error(`${text} is no window`);
    return window;
  });

const minute = 60_000;
const hour = 60 * minute;

/** The minutes of a time in which the windows are open, as [from, to) in the form of `show`. */
function openTimes(list: readonly Window[], zone: string, from: string, to: string): readonly string[] {
  const edges: string[] = [];
  let open = false;
  for (let at = Date.parse(from); at <= Date.parse(to); at += 5 * minute) {
    const now = isOpen(list, zone, at);
    if (now !== open) edges.push(new Date(at).toISOString().slice(5, 16));
    open = now;
  }
  return edges;
}

describe("text", () => {
  test.each<[string, Window]>([
    ["22:00-06:00", { days: everyDay, from: 1320, to: 360 }],
    ["00:00-24:00", { days: everyDay, from: 0, to: 1440 }],
    ["sat,sun 00:00-24:00", { days: [6, 0], from: 0, to: 1440 }],
    [" Mon  09:05-17:30 ", { days: [1], from: 545, to: 1050 }],
    ["22:00-00:00", { days: everyDay, from: 1320, to: 0 }],
    ["00:00-00:01", { days: everyDay, from: 0, to: 1 }],
    ["23:59-24:00", { days: everyDay, from: 1439, to: 1440 }],
  ])("%j", (text, window) => {
    expect(parseWindow(text)).toEqual(window);
  });

  test.each([
    ...[
      "",
      "always",
      "22:00",
      "22-06",
      "22:00-",
      "9:00-17:00",
      "09:00-17:0",
      "09:00 - 17:00",
      "09:00-17:00 sat",
    ],
    ...[
      "24:00-06:00",
      "25:00-26:00",
      "22:00-24:01",
      "22:60-23:00",
      "22:00-23:60",
      "22:00-25:00",
      "-1:00-02:00",
    ],
    ...[
      "10:00-10:00",
      "00:00-00:00",
      "24:00-24:00",
      "foo 10:00-11:00",
      "mon,foo 10:00-11:00",
      "mon, 10:00-11:00",
    ],
    ...["monday 10:00-11:00", "mon-fri 10:00-11:00", "mon10:00-11:00", "22:00-06:00,", "２２:00-06:00"],
  ])("%j is none", (text) => {
    expect(parseWindow(text)).toBeUndefined();
  });
});

test("without a window it is always open", () => {
  expect(isOpen([], "UTC", 0)).toBe(true);
});

describe("in UTC", () => {
  test("a window holds its first minute and not its last, by the minute", () => {
    const list = windows("09:30-17:00");
    const at = (time: string) => isOpen(list, "UTC", Date.parse(`2026-03-04T${time}Z`));
    expect(["09:29:59.999", "09:30", "16:59:59.999", "17:00"].map(at)).toEqual([false, true, true, false]);
  });

  test("over midnight it belongs to the day on which it begins", () => {
    // 2026-03-06 is a Friday.
    expect(openTimes(windows("fri 22:00-06:00"), "UTC", "2026-03-04T00:00Z", "2026-03-10T00:00Z")).toEqual([
      "03-06T22:00",
      "03-07T06:00",
    ]);
    expect(openTimes(windows("sat 23:00-00:00"), "UTC", "2026-03-04T00:00Z", "2026-03-10T00:00Z")).toEqual([
      "03-07T23:00",
      "03-08T00:00",
    ]);
  });

  test("days follow each other without a gap, from Saturday to Sunday too", () => {
    expect(
      openTimes(windows("sat,sun 00:00-24:00"), "UTC", "2026-03-04T00:00Z", "2026-03-12T00:00Z"),
    ).toEqual(["03-07T00:00", "03-09T00:00"]);
  });

  test("one of several is enough", () => {
    const list = windows("mon 10:00-11:00", "mon 10:30-12:00", "wed 00:00-01:00");
    expect(openTimes(list, "UTC", "2026-03-08T00:00Z", "2026-03-12T00:00Z")).toEqual([
      ...["03-09T10:00", "03-09T12:00"],
      ...["03-11T00:00", "03-11T01:00"],
    ]);
  });

  test("it is what counting minutes says", () => {
    const time = fc.record({ from: fc.nat(1439), to: fc.nat(1440) }).filter(({ from, to }) => from !== to);
    const days = fc.uniqueArray(fc.constantFrom(...everyDay), { minLength: 1 });
    const at = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2040, 0) });
    fc.assert(
      fc.property(time, days, at, ({ from, to }, which, when) => {
        // Each window as a span of time since the Sunday before: one that reaches into the next day is only longer.
        const inWeek = Math.floor(when / minute + 4 * 1440) % (7 * 1440);
        const length = to > from ? to - from : to + 1440 - from;
        const wanted = which.some((day) => (inWeek - day * 1440 - from + 7 * 1440) % (7 * 1440) < length);
        expect(isOpen([{ days: which, from, to }], "UTC", when)).toBe(wanted);
      }),
      { numRuns: 500 },
    );
  });
});

describe("in a time zone", () => {
  test.each([
    // Its own day and time, not that of UTC: half past five, a quarter to, the date line.
    ["Asia/Kolkata", "2026-03-05T18:30", "2026-03-06T18:30"],
    ["Asia/Kathmandu", "2026-03-05T18:15", "2026-03-06T18:15"],
    ["Pacific/Kiritimati", "2026-03-05T10:00", "2026-03-06T10:00"],
    ["Pacific/Pago_Pago", "2026-03-06T11:00", "2026-03-07T11:00"],
  ])("%s has a Friday of its own", (zone, from, to) => {
    expect(openTimes(windows("fri 00:00-24:00"), zone, "2026-03-04T00:00Z", "2026-03-09T00:00Z")).toEqual([
      from.slice(5),
      to.slice(5),
    ]);
  });

  // Berlin: on 29 March 2026 at 02:00 (01:00 UTC) clocks go to 03:00; on 25 October at 03:00 (01:00 UTC) back to 02:00.
  test("when clocks go forward, a night is an hour shorter, and what falls into the gap is not there", () => {
    const on = (text: string) =>
      openTimes(windows(text), "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-29T12:00Z");
    expect(on("22:00-06:00")).toEqual(["03-28T21:00", "03-29T04:00"]);
    expect(on("02:00-03:00")).toEqual([]);
    expect(on("02:30-04:00")).toEqual(["03-29T01:00", "03-29T02:00"]);
    expect(on("01:00-02:30")).toEqual(["03-29T00:00", "03-29T01:00"]);
  });

  test("when clocks go back, a night is an hour longer, and what falls into the hour comes twice", () => {
    const on = (text: string) =>
      openTimes(windows(text), "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-25T12:00Z");
    expect(on("22:00-06:00")).toEqual(["10-24T20:00", "10-25T05:00"]);
    expect(on("02:00-03:00")).toEqual(["10-25T00:00", "10-25T02:00"]);
    expect(on("02:15-02:45")).toEqual(["10-25T00:15", "10-25T00:45", "10-25T01:15", "10-25T01:45"]);
  });

  test("a day without midnight begins where its clock does", () => {
    // Cairo: on Friday 24 April 2026 clocks go from 00:00 (22:00 UTC the day before) to 01:00.
    const list = windows("fri 00:00-24:00");
    const [from, to] = openTimes(list, "Africa/Cairo", "2026-04-22T00:00Z", "2026-04-26T00:00Z");
    expect([from, to]).toEqual(["04-23T22:00", "04-24T21:00"]);
  });

  test("every moment is in exactly one day of the week, whatever clocks do", () => {
    const list = everyDay.map((day) => [{ days: [day], from: 0, to: 1440 }] as const);
    for (let at = Date.UTC(2026, 0); at < Date.UTC(2026, 11); at += 11 * hour)
      expect(list.filter((day) => isOpen(day, "Europe/Berlin", at))).toHaveLength(1);
  });
});
