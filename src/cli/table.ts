// Tables that fit the terminal: the least important columns give way, and nothing wraps but what may.

import { type Colour, coloured, cutTo, harmless, widthOf, wrapTo } from "./terminal.ts";

export type Column<Row> = {
  readonly title: string;
  /** Several texts stand below one another in a column that wraps. */
  readonly value: (row: Row) => string | number | readonly string[];
  /** 1 is the most important. Where the width does not suffice, the highest rank is cut first, then left out. */
  readonly rank: number;
  /** Text may be cut to this width before the column is left out; numbers are exact or absent, never cut. */
  readonly widthMin?: number;
  /** Text stands to the right, as numbers do. */
  readonly right?: boolean;
  /** The text goes on below itself instead of being cut. */
  readonly wraps?: boolean;
  readonly colour?: (row: Row) => Colour | undefined;
};

export type Table<Row> = {
  /** Lines of these rows; the title line stands before them when it is the first or the widths have changed. */
  lines(rows: readonly Row[]): string[];
};

/** `columns` is the width of the terminal; without one nothing is cut. */
export type Terminal = { readonly columns?: number; readonly colours: boolean };

type Placed<Row> = Column<Row> & { readonly width: number; readonly right: boolean };

const gap = "  ";

const textsOf = <Row>(column: Column<Row>, row: Row): readonly string[] => {
  const value = column.value(row);
  return typeof value === "object" ? value.map(harmless) : [harmless(String(value))];
};

// No spread: a table of many rows would overflow the stack with it.
const widest = <Row>(column: Placed<Row>, rows: readonly Row[]): number =>
  rows.reduce(
    (width, row) => textsOf(column, row).reduce((most, text) => Math.max(most, widthOf(text)), width),
    column.width,
  );

const narrowest = <Row>({ title, widthMin, right, width }: Placed<Row>): number =>
  right ? width : Math.min(width, Math.max(widthMin ?? width, widthOf(title)));

const widthOfAll = (widths: readonly number[]): number =>
  widths.reduce((sum, width) => sum + width, 0) + gap.length * Math.max(0, widths.length - 1);

/** Leaves out, then cuts, from the least important column on. */
function fit<Row>(placed: readonly Placed<Row>[], widthMax: number): Placed<Row>[] {
  let fitted = [...placed];
  while (fitted.length > 1 && widthOfAll(fitted.map(narrowest)) > widthMax) {
    const least = Math.max(...fitted.map(({ rank }) => rank));
    fitted = fitted.filter(({ rank }) => rank !== least);
  }
  for (const least of [...fitted].sort((a, b) => b.rank - a.rank)) {
    const excess = widthOfAll(fitted.map(({ width }) => width)) - widthMax;
    if (excess <= 0) break;
    fitted = fitted.map((one) =>
      one.title === least.title ? { ...one, width: Math.max(narrowest(one), one.width - excess) } : one,
    );
  }
  return fitted;
}

const padded = (text: string, width: number, right: boolean): string => {
  const fill = " ".repeat(Math.max(0, width - widthOf(text)));
  return right ? fill + text : text + fill;
};

function rowLines<Row>(placed: readonly Placed<Row>[], row: Row, colours: boolean): string[] {
  const cells = placed.map((column) => {
    const texts = textsOf(column, row);
    if (column.wraps === true) return texts.flatMap((text) => wrapTo(text, column.width));
    return [cutTo(texts.join(", "), column.width)];
  });
  const height = Math.max(...cells.map(({ length }) => length));
  return Array.from({ length: height }, (_, line) =>
    placed
      .map(({ colour, width, right }, index) =>
        coloured(padded(cells[index]?.[line] ?? "", width, right), colour?.(row), colours),
      )
      .join(gap)
      .trimEnd(),
  );
}

const titleLine = <Row>(placed: readonly Placed<Row>[]): string =>
  placed
    .map(({ title, width, right }) => padded(cutTo(title, width), width, right))
    .join(gap)
    .trimEnd();

/** A table that may grow: columns keep the width that any of their rows needed. */
export function createTable<Row>(columns: readonly Column<Row>[], terminal: Terminal): Table<Row> {
  const widthMax = terminal.columns ?? Number.POSITIVE_INFINITY;
  let placed: readonly Placed<Row>[] = columns.map((column) => ({
    ...column,
    width: widthOf(column.title),
    right: column.right === true,
  }));
  let title = "";
  return {
    lines: (rows) => {
      placed = placed.map((column) => ({
        ...column,
        width: widest(column, rows),
        right: column.right || rows.some((row) => typeof column.value(row) === "number"),
      }));
      const fitted = fit(placed, widthMax);
      const before = title;
      title = titleLine(fitted);
      const titles = title === before ? [] : [coloured(title, "bold", terminal.colours)];
      return [...titles, ...rows.flatMap((row) => rowLines(fitted, row, terminal.colours))];
    },
  };
}
