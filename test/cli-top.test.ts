// fovea top: the table, once and live, on a terminal that is given back as it was.

import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { type ApiParts, apiApp } from "../src/api/app.ts";
import { openServer } from "../src/api/server.ts";
import type { Keyboard } from "../src/cli/keyboard.ts";
import { keyboardOf } from "../src/cli/keyboard.ts";
import { runProgram } from "../src/cli/program.ts";
import { bar, quantity } from "../src/cli/quantity.ts";
import { picture, type Tty, type TtyStream, ttyOf } from "../src/cli/screen.ts";
import { widthOf } from "../src/cli/terminal.ts";
import { rangeOf, ranksOf, type Top, topRows, topScreen, topTitle } from "../src/cli/top-view.ts";
import { StoreQueryError, StoreUnreadableError } from "../src/store/failure.ts";
import { apiParts, historyOf, now, storeOfRows } from "./api.parts.ts";
import { keptOutput, runFovea, testWorld } from "./cli.world.ts";

const store = storeOfRows();
afterAll(() => store.close());

type AskTop = ApiParts["queries"]["top"];

async function serve(top: AskTop = historyOf(store).top) {
  const app = apiApp(apiParts(store, { queries: { ...historyOf(store), top } }));
  return await openServer({
    listen: { host: "127.0.0.1", port: 0 },
    address: "127.0.0.1",
    fetch: (request) => app.fetch(request),
    connectionsMax: 20,
    bodyBytesMax: 1024,
  });
}

const sums = (bytes: number, packets: number, records: number) => ({ bytes, packets, records });
const answer: Top = {
  by: "port",
  order: "bytes",
  ranks: [
    { key: "443", ...sums(7_500_000, 6000, 60) },
    { key: "0", ...sums(1_500_000, 3000, 30) },
  ],
  total: sums(10_000_000, 10_000, 100),
  other: sums(1_000_000, 1000, 10),
  unnamed: sums(0, 0, 0),
  fromAt: now,
  toAt: now + 60_000,
  complete: true,
};
const moment = { now: now + 50_000, startedAt: 0 };

test.each([
  [0, "0", "0 B"],
  [7, "7", "7 B"],
  [0.444, "0.44", "0.44 B"],
  [12.34, "12.3", "12.3 B"],
  [999, "999", "999 B"],
  [999.6, "1.00 k", "1.00 kB"],
  [1234, "1.23 k", "1.23 kB"],
  [9_996_000, "10.0 M", "10.0 MB"],
  [1.5e9, "1.50 G", "1.50 GB"],
  [5e18, "5000 P", "5000 PB"],
])("%p is shown as %p, in bytes %p", (value, plain, bytes) => {
  expect([quantity(value), quantity(value, "B")]).toEqual([plain, bytes]);
});

test("a quantity keeps its value to half a percent, in at most eight columns", () => {
  const factors: Record<string, number> = { "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };
  fc.assert(
    fc.property(fc.double({ min: 1, max: 9e17, noNaN: true }), (value) => {
      const [digits = "", unit = ""] = quantity(value).split(" ");
      expect(Math.abs(Number(digits) * (factors[unit] ?? Number.NaN) - value) / value).toBeLessThan(0.0051);
      expect(quantity(value, "B").length).toBeLessThanOrEqual(8);
    }),
  );
});

test("a bar is as long as its share", () => {
  expect([bar(0, 4), bar(0.5, 4), bar(1, 4), bar(2, 4), bar(0.53125, 4)]).toEqual([
    "",
    "██",
    "████",
    "████",
    "██▏",
  ]);
});

test("rates are over what has passed of the range; of the first minute, since the start", () => {
  expect(rangeOf(answer, moment).seconds).toBe(50);
  expect(rangeOf(answer, { ...moment, now: now + 90_000 }).seconds).toBe(60);
  expect(rangeOf(answer, { now: now + 50_000, startedAt: now + 30_000 }).seconds).toBe(20);
  expect(rangeOf(answer, { now: now + 50_000, startedAt: now + 70_000 }).seconds).toBe(50);
  expect(rangeOf(answer, { now: now - 5000, startedAt: 0 }).seconds).toBe(1); // Clocks differ.
  expect(topTitle(answer, moment)).toMatch(
    /^200 kB\/s, 200 packets\/s, by port, most bytes first, \d\d:\d\d:00 to \d\d:\d\d:50$/,
  );
});

test("shares are of ranks and rest together, and a port that is none is said so", () => {
  expect(topRows(answer, moment).map(({ key, share }) => [key, share])).toEqual([
    ["443", 0.75],
    ["none, or a client's", 0.15],
    ["other", 0.1],
  ]);
  const none = { ...answer, ranks: [], other: sums(0, 0, 0), total: sums(0, 0, 0) };
  expect(topScreen(none, moment, { columns: 80, colours: false })).toContain("nothing was seen in that time");
});

test("no screen is wider or higher than the terminal, and quit is always said", () => {
  const key = fc.oneof(fc.string({ unit: "grapheme", maxLength: 60 }), fc.ipV6());
  const rank = fc.record({ key, bytes: fc.nat(), packets: fc.nat(), records: fc.nat() });
  const size = fc.record({
    columns: fc.integer({ min: 20, max: 250 }),
    rows: fc.integer({ min: 10, max: 80 }),
  });
  fc.assert(
    fc.property(fc.array(rank, { minLength: 1, maxLength: 100 }), size, (all, given) => {
      const top = { ...answer, ranks: all.slice(0, ranksOf(given)) };
      const lines = topScreen(top, moment, { ...given, colours: false });
      expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(given.columns);
      expect(lines.some((line) => line.startsWith("q quit"))).toBe(true);
      if (ranksOf(given) > 1) expect(lines.length).toBeLessThanOrEqual(given.rows);
    }),
  );
});

test("where there is no terminal it prints once: a table", async () => {
  await using server = await serve();
  const { code, out, err } = await runFovea(["top", "--server", server.url]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(out).toMatch(/^[\d.]+ k?B\/s, .* by address, most bytes first, /);
  expect(out).toMatch(/\nADDRESS +BYTES\/s +PACKETS\/s +BYTES +PACKETS +RECORDS +SHARE\n10\.0\.0\.1 /);
  expect(out).toContain("evil\\u001b[31m"); // Names are not ours: no escape sequence passes.
  expect(out).toMatch(/\nother /);
});

test("as JSON it is the answer of the API, as CSV the ranks and the rest", async () => {
  await using server = await serve();
  const json = await runFovea(["top", "--server", server.url, "-o", "json"]);
  expect(JSON.parse(json.out)).toMatchObject({
    by: "address",
    ranks: [{ key: "10.0.0.1", packets: 33 }, {}],
  });
  const csv = await runFovea(["top", "--server", server.url, "-o", "csv"]);
  expect(csv.out).toBe(
    "address,records,packets,bytes\n10.0.0.1,4,33,15180\nevil\\u001b[31m,1,10,5000\n(other),7,63,30180\n",
  );
});

test.each([
  [[], { by: "address", order: "bytes", limit: 20, fromAt: now - 300_000 }],
  [
    ["--by", "reason"],
    { by: "reason", verdict: "dropped", order: "bytes", limit: 20, fromAt: now - 300_000 },
  ],
  [
    ["--by", "reason", "--verdict", "forwarded", "--since", "1h", "-n", "3", "--address", "10.0.0.0/8,::1"],
    {
      ...{ by: "reason", verdict: "forwarded", order: "bytes", limit: 3, fromAt: now - 3_600_000 },
      address: ["10.0.0.0/8", "::1"],
    },
  ],
  [
    ["--from", "-2h", "--order", "packets"],
    { by: "address", order: "packets", limit: 20, fromAt: now - 7_200_000 },
  ],
])("%p asks for %p", async (args, query) => {
  const seen: unknown[] = [];
  await using server = await serve((asked) => {
    seen.push(asked);
    return historyOf(store).top(asked);
  });
  expect((await runFovea(["top", "--server", server.url, ...args])).code).toBe(0);
  expect(seen).toEqual([query]);
});

test.each([
  [["--by", "colour"], /It is one of address, source/],
  [["--interval", "1ms"], /duration of 200ms or more/],
  [["-n", "0"], /whole number from 1 to 1000/],
  [["--since", "soon"], /--since "soon" is no duration/],
])("%p is a wrong call", async (args, err) => {
  await using server = await serve();
  const ran = await runFovea(["top", "--server", server.url, ...args]);
  expect(ran).toMatchObject({ code: 2, out: "" });
  expect(ran.err).toMatch(err);
});

// --- live ---

function fakeTerminal() {
  const drawn: (readonly string[])[] = [];
  const listeners = new Set<() => void>();
  let [columns, rows, open] = [100, 24, false];
  const tty: Tty = {
    size: () => ({ columns, rows }),
    resized: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    open: () => {
      open = true;
      return {
        draw: (lines) => void drawn.push(lines),
        [Symbol.dispose]: () => {
          open = false;
        },
      };
    },
  };
  const typed = new Set<(key: string) => void>();
  const keyboard: Keyboard = {
    listen: (pressed) => {
      typed.add(pressed);
      return { [Symbol.dispose]: () => void typed.delete(pressed) };
    },
  };
  return {
    tty,
    keyboard,
    drawn,
    state: () => ({ open, listeners: listeners.size, typed: typed.size }),
    type: (key: string) => {
      for (const pressed of typed) pressed(key);
    },
    resize: (to: { columns: number; rows: number }) => {
      [columns, rows] = [to.columns, to.rows];
      for (const listener of listeners) listener();
    },
  };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}

function live(url: string, ...args: readonly string[]) {
  const terminal = fakeTerminal();
  const stop = new AbortController();
  const err = keptOutput();
  const world = testWorld({
    out: { ...keptOutput({ columns: 100 }), tty: terminal.tty },
    err,
    keyboard: terminal.keyboard,
    stop: stop.signal,
  });
  const code = runProgram(["top", "--server", url, ...args], world);
  return { ...terminal, stop: () => stop.abort(), code, err: err.text };
}

const titles = ({ drawn }: { readonly drawn: readonly (readonly string[])[] }) =>
  drawn.map(([title = ""]) => /by \w+, most \w+/.exec(title)?.[0] ?? title);

test("live: drawn anew, keys change the view at once, q gives the terminal back", async () => {
  await using server = await serve();
  const top = live(server.url, "--interval", "1h");
  await until(() => top.drawn.length === 1);
  expect(top.state()).toEqual({ open: true, listeners: 1, typed: 1 });
  for (const key of ["p", "k", "x", "r"]) {
    const before = top.drawn.length;
    top.type(key);
    if (key !== "x") await until(() => top.drawn.length > before);
  }
  expect(titles(top)).toEqual([
    "by address, most bytes",
    "by port, most bytes",
    "by port, most packets",
    "by reason, most packets",
  ]);
  top.resize({ columns: 50, rows: 12 });
  await until(() => top.drawn.length === 5);
  expect(Math.max(...(top.drawn.at(-1) ?? []).map(widthOf))).toBeLessThanOrEqual(50);
  top.type("q");
  expect(await top.code).toBe(0);
  expect(top.state()).toEqual({ open: false, listeners: 0, typed: 0 });
});

test.each([
  ["Ctrl-C as a key", (top: ReturnType<typeof live>) => top.type("\u0003")],
  ["a signal", (top: ReturnType<typeof live>) => top.stop()],
])("live: %s ends it, and the terminal is given back", async (_, end) => {
  await using server = await serve();
  const top = live(server.url, "--interval", "200ms");
  await until(() => top.drawn.length >= 2);
  end(top);
  expect(await top.code).toBe(0);
  expect(top.state()).toEqual({ open: false, listeners: 0, typed: 0 });
});

test("live: a server that goes is told in the title, what was there last stays", async () => {
  const server = await serve();
  const top = live(server.url, "--interval", "200ms");
  await until(() => top.drawn.length >= 1);
  await server[Symbol.asyncDispose]();
  await until(() => titles(top).at(-1)?.includes("does not answer") === true);
  expect(top.drawn.at(-1)?.some((line) => line.startsWith("10.0.0.1 "))).toBe(true);
  top.type("q");
  expect(await top.code).toBe(0);
});

test("live: what is wrong from the beginning is told without taking the screen", async () => {
  const top = live("http://127.0.0.1:1");
  expect(await top.code).toBe(1);
  expect(top.err()).toContain("is fovea running there?");
  expect(top.drawn).toEqual([]);
});

test.each([
  [503, new StoreUnreadableError("starting"), "the store cannot be read now"],
  [500, new Error("broken"), "internal error"],
])("live: a %p that passes is told in the title and tried again", async (_, error, told) => {
  let asked = 0;
  await using server = await serve((query) => {
    asked += 1;
    return asked === 2 ? Promise.reject(error) : historyOf(store).top(query);
  });
  const top = live(server.url, "--interval", "200ms");
  const shown = () => titles(top).findIndex((title) => title.includes(told));
  await until(() => shown() > 0 && titles(top).at(-1) === "by address, most bytes");
  expect(top.drawn[shown()]?.[0]).toContain("trying again");
  expect(top.drawn[shown()]?.some((line) => line.startsWith("10.0.0.1 "))).toBe(true);
  top.type("q");
  expect(await top.code).toBe(0);
});

test("live: what the server refuses later ends it with the screen given back", async () => {
  let asked = 0;
  await using server = await serve((query) => {
    asked += 1;
    if (asked === 1) return historyOf(store).top(query);
    return Promise.reject(new StoreQueryError("order", "order is gone"));
  });
  const top = live(server.url, "--interval", "200ms");
  expect(await top.code).toBe(2);
  expect(top.state()).toEqual({ open: false, listeners: 0, typed: 0 });
  expect(top.err()).toContain("--order is gone");
});

test("--once prints on a terminal as elsewhere", async () => {
  await using server = await serve();
  const out = keptOutput({ columns: 100 });
  const { tty, drawn } = fakeTerminal();
  expect(
    await runProgram(["top", "--once", "--server", server.url], testWorld({ out: { ...out, tty } })),
  ).toBe(0);
  expect(out.text()).toContain("10.0.0.1 ");
  expect(drawn).toEqual([]);
});

test("a picture writes over the one before, clears what is left, and is no higher than the screen", () => {
  const text = picture(["a", "b", "c"], { columns: 10, rows: 2 });
  expect(text).toBe("\u001b[?2026h\u001b[Ha\u001b[K\r\nb\u001b[K\u001b[J\u001b[?2026l");
});

test("the screen is given back once, when it is disposed of or when the process ends", () => {
  let written = "";
  const stream: TtyStream = { fd: 1, columns: 20, rows: 5, on: () => undefined, off: () => undefined };
  const tty = ttyOf(stream, (_, text) => {
    written += text;
  });
  const before = process.listenerCount("exit");
  const screen = tty.open();
  expect(process.listenerCount("exit")).toBe(before + 1);
  screen.draw(["x"]);
  process.listeners("exit").at(-1)?.(0);
  screen[Symbol.dispose]();
  screen.draw(["late"]);
  expect(process.listenerCount("exit")).toBe(before);
  expect(written).toStartWith("\u001b[?1049h\u001b[?25l");
  expect(written).toEndWith("\u001b[?25h\u001b[?1049l");
  expect(written).not.toContain("late");
  expect(written.split("\u001b[?1049l")).toHaveLength(2);
  expect(tty.size()).toEqual({ columns: 20, rows: 5 });
});

test("keys come one by one, sequences not at all, and the terminal is cooked again", () => {
  const raw: boolean[] = [];
  let hear = (_: string) => {};
  const keys: string[] = [];
  const keyboard = keyboardOf({
    setRawMode: (mode) => raw.push(mode),
    on: (_, listener) => {
      hear = listener;
    },
    off: () => {
      hear = () => {};
    },
    resume: () => undefined,
    pause: () => undefined,
  });
  {
    using _ = keyboard.listen((key) => keys.push(key));
    for (const text of ["p", "kq", "\u001b[A", "\u0003"]) hear(text);
  }
  hear("late");
  expect(keys).toEqual(["p", "k", "q", "\u0003"]);
  expect(raw).toEqual([true, false]);
});
