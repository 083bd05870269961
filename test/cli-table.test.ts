// Tables, CSV and harmless text.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { csvLine, readCsvLine } from "../src/cli/csv.ts";
import { type Column, createTable } from "../src/cli/table.ts";
import { cutTo, harmless, harmlessJson, widthOf, wrapTo } from "../src/cli/terminal.ts";

type Row = { readonly name: string; readonly address: string; readonly count: number; readonly note: string };

const columns: readonly Column<Row>[] = [
  { title: "NAME", rank: 3, widthMin: 5, value: ({ name }) => name },
  { title: "ADDRESS", rank: 1, widthMin: 9, value: ({ address }) => address },
  { title: "COUNT", rank: 2, value: ({ count }) => count },
  { title: "NOTE", rank: 4, widthMin: 6, value: ({ note }) => note },
];

const rows: readonly Row[] = [
  { name: "alpha", address: "10.0.0.1", count: 7, note: "short" },
  { name: "a-much-longer-name", address: "2001:db8:1234:5678:9abc:def0:1234:5678", count: 123_456, note: "" },
];

const plain = { colours: false };

test("without a terminal nothing is cut and numbers stand to the right", () => {
  expect(createTable(columns, plain).lines(rows)).toEqual([
    "NAME                ADDRESS                                  COUNT  NOTE",
    "alpha               10.0.0.1                                     7  short",
    "a-much-longer-name  2001:db8:1234:5678:9abc:def0:1234:5678  123456",
  ]);
});

test("the least important columns give way first, numbers whole or not at all", () => {
  const at = (width: number) => createTable(columns, { ...plain, columns: width }).lines(rows);
  expect(at(70)).toEqual([
    "NAME             ADDRESS                                  COUNT  NOTE",
    "alpha            10.0.0.1                                     7  short",
    "a-much-longer-…  2001:db8:1234:5678:9abc:def0:1234:5678  123456",
  ]);
  expect(at(30)).toEqual([
    "NAME   ADDRESS           COUNT",
    "alpha  10.0.0.1              7",
    "a-mu…  2001:db8:1234:…  123456",
  ]);
  expect(at(17)).toEqual(["ADDRESS     COUNT", "10.0.0.1        7", "2001:db8…  123456"]);
});

const text = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: "grapheme", maxLength: 30 }));
const anyRow = fc.record({ name: text, address: text, count: fc.nat(), note: text });

test("no line is wider than the terminal, and no number is cut", () => {
  fc.assert(
    fc.property(fc.array(anyRow, { maxLength: 8 }), fc.integer({ min: 20, max: 200 }), (some, width) => {
      const lines = createTable(columns, { ...plain, columns: width }).lines(some);
      for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(width);
      if (!lines[0]?.includes("COUNT")) return;
      for (const [index, { count }] of some.entries()) expect(lines[index + 1]).toContain(String(count));
    }),
  );
});

test("a column that wraps goes on below itself, within the width", () => {
  const wide: Column<{ what: string; why: readonly string[] }>[] = [
    { title: "WHAT", rank: 1, value: ({ what }) => what },
    { title: "WHY", rank: 2, widthMin: 10, wraps: true, value: ({ why }) => why },
  ];
  const lines = createTable(wide, { ...plain, columns: 24 }).lines([
    { what: "drops", why: ["this kernel has no BTF", "and more"] },
    { what: "flows", why: [] },
  ]);
  expect(lines).toEqual([
    "WHAT   WHY",
    "drops  this kernel has",
    "       no BTF",
    "       and more",
    "flows",
  ]);
});

test("a table that grows repeats its title only when its widths change", () => {
  const table = createTable(columns, plain);
  expect(table.lines(rows)).toHaveLength(3);
  expect(table.lines(rows.slice(0, 1))).toHaveLength(1);
  expect(table.lines([{ name: "", address: "", count: 12_345_678, note: "" }])[0]).toStartWith("NAME");
});

test("colours stand around the padding and change no width", () => {
  const coloured: Column<Row>[] = [
    { title: "NAME", rank: 1, value: ({ name }) => name, colour: () => "red" },
  ];
  const lines = createTable(coloured, { colours: true }).lines(rows.slice(0, 1));
  expect(lines).toEqual(["\u001b[1mNAME\u001b[0m", "\u001b[31malpha\u001b[0m"]);
});

test.each([
  ["\u001b[31mred\u001b[0m", "\\u001b[31mred\\u001b[0m"],
  ["a\rb\nc\td", "a\\u000db\\u000ac\\u0009d"],
  ["\u009b2J", "\\u009b2J"],
  ["safe\u202Etxt.exe", "safe\\u202etxt.exe"],
  ["zero\u200bwidth", "zero\\u200bwidth"],
  ["Zürich 東京 🦊", "Zürich 東京 🦊"],
])("%j is shown as %j", (given, shown) => {
  expect(harmless(given)).toBe(shown);
});

test("nothing that is shown holds a control character, and JSON stays the same value", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (given) => {
      expect(harmless(given)).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
      expect(harmlessJson(given)).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
      expect(JSON.parse(harmlessJson({ given }, 2))).toEqual({ given });
    }),
  );
});

test("cutting keeps to the width, whatever the characters", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.nat({ max: 30 }), (given, width) => {
      expect(widthOf(cutTo(given, width))).toBeLessThanOrEqual(width);
    }),
  );
  expect(cutTo("abcdef", 4)).toBe("abc…");
  expect(cutTo("abcd", 4)).toBe("abcd");
});

test("wrapping loses no word and keeps to the width", () => {
  const words = fc.array(fc.stringMatching(/^[a-z]{1,40}$/), { maxLength: 20 });
  fc.assert(
    fc.property(words, fc.integer({ min: 5, max: 60 }), (given, width) => {
      const lines = wrapTo(given.join(" "), width);
      expect(lines.join("").replaceAll(" ", "")).toBe(given.join(""));
      for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(width);
    }),
  );
});

test.each([
  [["a", 1, -5], "a,1,-5\n"],
  [['say "hi"', "a,b"], '"say ""hi""","a,b"\n'],
  [["=1+1", "+1", "-1", "@SUM(A1)"], "'=1+1,'+1,'-1,'@SUM(A1)\n"],
  [["=cmd|' /C calc'!A0,x"], "\"'=cmd|' /C calc'!A0,x\"\n"],
  [["\t=1", "\r=1", "a\nb"], "'\\u0009=1,'\\u000d=1,a\\u000ab\n"],
  [[" padded "], '" padded "\n'],
])("CSV of %j", (values, line) => {
  expect(csvLine(values)).toBe(line);
});

test("no cell of a CSV begins a formula, and a line stays one line", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (given) => {
      const line = csvLine([given]);
      expect(line).not.toMatch(/^"?[=+\-@\t\r]/);
      expect(line.indexOf("\n")).toBe(line.length - 1);
    }),
  );
});

test("what was written as CSV reads back as it was", () => {
  const awkward = fc.constantFrom(
    "'",
    "'=1",
    "\\u001b",
    "\\u005cu005c",
    '"',
    '""',
    "",
    " ",
    ",",
    "\u001b",
    "\u2028",
  );
  const text = fc.oneof(awkward, fc.string({ unit: "binary" }), fc.string({ unit: awkward }));
  fc.assert(
    fc.property(fc.array(text, { minLength: 1 }), (given) => {
      expect(readCsvLine(csvLine(given).slice(0, -1))).toEqual(given);
    }),
  );
  for (const broken of ['"a', 'a"b', '"a"b', 'a,"', '"a""']) expect(readCsvLine(broken)).toBeUndefined();
});
