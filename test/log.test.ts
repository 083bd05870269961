// The log: its two shapes, its limit, and what it never shows.

import { describe, expect, test } from "bun:test";
import { createLog, errorText, type LogLevel } from "../src/log.ts";

function written(options: { level?: LogLevel; format?: "json" | "text" } = {}) {
  const lines: string[] = [];
  const clock = { at: Date.UTC(2026, 0, 2, 3, 4, 5, 678) };
  const log = createLog({
    level: options.level ?? "debug",
    format: options.format ?? "json",
    now: () => clock.at,
    write: (line) => lines.push(line),
  });
  return { log, lines, clock, last: () => JSON.parse(lines.at(-1) ?? "null") as Record<string, unknown> };
}

describe("lines", () => {
  test("are JSON objects with time, level, message and fields", () => {
    const { log, lines } = written();
    log.warn("a collector failed", { collector: "flows", durationMs: 3 });
    expect(lines).toEqual([
      '{"time":"2026-01-02T03:04:05.678Z","level":"warn","message":"a collector failed","collector":"flows","durationMs":3}\n',
    ]);
  });

  test("are text on a terminal, and no value can end a line or pass as another field", () => {
    const { log, lines } = written({ format: "text" });
    log.info("started", {
      listen: "127.0.0.1:10093",
      names: "a b",
      trick: "x\nERROR y=\u001b[31m",
      empty: "",
      ok: true,
    });
    expect(lines).toEqual([
      '2026-01-02T03:04:05.678Z INFO  started listen=127.0.0.1:10093 names="a b" trick="x\\nERROR y=\\u001b[31m" empty="" ok=true\n',
    ]);
  });

  test("below the level are not written, and the level can change", () => {
    const { log, lines } = written({ level: "warn" });
    log.info("one");
    log.warn("two");
    log.setLevel("error");
    log.warn("three");
    log.error("four");
    expect(lines.map((line) => JSON.parse(line).message)).toEqual(["two", "four"]);
    expect(log.counts()).toEqual({ suppressed: 0, lost: 0 });
  });

  test("hold errors with their causes, and objects, but not without end", () => {
    const { log, last } = written();
    log.error("failed", {
      error: new Error("open store", { cause: new Error("EACCES") }),
      list: [1, { a: 2 }],
    });
    expect(last()).toMatchObject({ error: "open store: EACCES", list: '[1,{"a":2}]' });
    log.error("long", { text: "x".repeat(5000), big: 2n ** 60n });
    expect(last()).toMatchObject({ text: `${"x".repeat(2048)}…`, big: "1152921504606846976" });
  });
});

describe("secrets", () => {
  test("are hidden by the name of their field, at any depth; paths are not", () => {
    const { log, lines } = written();
    const secret = "0123456789abcdef";
    log.info("a", {
      token: secret,
      apiKey: secret,
      tokenFile: "/etc/token",
      headers: { Authorization: secret },
    });
    expect(lines.join("")).not.toContain(secret);
    expect(lines.join("")).toContain("/etc/token");
  });

  test("are hidden where a text quotes them", () => {
    const { log, lines } = written();
    log.info("a", {
      header: "Authorization: Bearer 0123456789abcdef",
      url: "https://user:hunter22@example.org/x",
      error: new Error("fetch http://u:hunter22@h/ failed: Basic dXNlcjpodW50ZXIyMg=="),
    });
    for (const secret of ["0123456789abcdef", "hunter22", "dXNlcjpod"])
      expect(lines.join("")).not.toContain(secret);
    expect(lines.join("")).toContain("https://user:[hidden]@example.org/x");
  });
});

describe("the limit", () => {
  test("holds back a message that repeats, not the others, and tells how many with the next that passes", () => {
    const { log, lines, clock, last } = written();
    for (let turn = 0; turn < 25; turn += 1) log.warn("again", { turn });
    log.warn("other");
    expect(lines).toHaveLength(11);
    expect(log.counts().suppressed).toBe(15);
    clock.at += 10_000;
    log.warn("again", { turn: 25 });
    expect(last()).toMatchObject({ message: "again", turn: 25, suppressed: 15 });
    log.warn("again", { turn: 26 });
    expect(last()).not.toHaveProperty("suppressed");
    expect(log.counts().suppressed).toBe(15);
  });

  test("opens again when the clock was set back", () => {
    const { log, lines, clock } = written();
    for (let turn = 0; turn < 11; turn += 1) log.warn("again");
    clock.at -= 86_400_000;
    log.warn("again");
    expect(lines).toHaveLength(11);
  });

  test("tells at the end what was not told", () => {
    const { log, last, lines } = written();
    for (let turn = 0; turn < 13; turn += 1) log.error("again");
    log.flush();
    expect(last()).toMatchObject({ level: "error", message: "again", suppressed: 3 });
    log.flush();
    expect(lines).toHaveLength(11);
  });

  test("is bounded itself: past 1024 messages all others share one place", () => {
    const { log, lines } = written();
    for (let number = 0; number < 3000; number += 1) log.info(`message ${number}`);
    expect(lines).toHaveLength(1024 + 10);
    expect(log.counts().suppressed).toBe(3000 - 1034);
  });
});

test("a line that cannot be written is counted and takes nothing down", () => {
  const log = createLog({
    level: "info",
    format: "json",
    now: () => 0,
    write: () => {
      throw new Error("EPIPE");
    },
  });
  log.error("lost");
  const circle: { inner?: unknown } = {};
  circle.inner = circle;
  log.error("lost", { circle });
  expect(log.counts()).toEqual({ suppressed: 0, lost: 2 });
});

test("the text of an error has each cause once", () => {
  expect(errorText(new Error("a", { cause: new Error("b", { cause: "c" }) }))).toBe("a: b: c");
  expect(errorText(new Error("a: b", { cause: new Error("b") }))).toBe("a: b");
  expect(errorText(new TypeError(""))).toBe("TypeError");
  expect(errorText(undefined)).toBe("undefined");
});
