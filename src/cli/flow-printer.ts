// Flows in the output formats: a table, CSV, one JSON document, or one JSON value a line.

import type { Flow } from "./client.ts";
import { csvHeader, csvRow, flowColumns } from "./flow-rows.ts";
import { type Output, printJson, printLines } from "./output.ts";
import { createTable } from "./table.ts";
import { harmlessJson } from "./terminal.ts";

/** Takes flows page by page. */
export type Printer = {
  page(flows: readonly Flow[]): Promise<void>;
  /** With what else a document has to say. */
  end(rest: Readonly<Record<string, unknown>>): Promise<void>;
};

function tablePrinter(out: Output): Printer {
  const table = createTable(flowColumns, out);
  let shown = 0;
  return {
    page: async (flows) => {
      shown += flows.length;
      await printLines(out, flows.length === 0 ? [] : table.lines(flows));
    },
    end: () => (shown === 0 ? printLines(out, ["no flows"]) : Promise.resolve()),
  };
}

function csvPrinter(out: Output): Printer {
  let header = csvHeader();
  const page = (flows: readonly Flow[]) => {
    const text = header + flows.map(csvRow).join("");
    header = "";
    return out.write(text);
  };
  return { page, end: () => page([]) };
}

const linePrinter = (out: Output): Printer => ({
  page: (flows) =>
    printLines(
      out,
      flows.map((flow) => harmlessJson(flow)),
    ),
  end: () => Promise.resolve(),
});

/** One document, with the names of the API. */
function documentPrinter(out: Output): Printer {
  const all: Flow[] = [];
  return {
    page: (flows) => {
      all.push(...flows);
      return Promise.resolve();
    },
    end: (rest) => printJson(out, { flows: all, ...rest }),
  };
}

export function flowPrinter(out: Output, format: string, { lines }: { readonly lines: boolean }): Printer {
  if (format === "csv") return csvPrinter(out);
  if (format === "table") return tablePrinter(out);
  return lines ? linePrinter(out) : documentPrinter(out);
}
