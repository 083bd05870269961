// The ARM template of the tables and the rule: it is what the encoder fills, column by column.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type AzureColumnType,
  azureFlowColumns,
  azureLogsEncoders,
  azureMetricColumns,
} from "../src/sinks/azure-logs-encode.ts";
import type { EncoderSpec } from "../src/sinks/encoder.ts";
import { sinkSchema } from "../src/sinks/schema.ts";
import { flow, startAt } from "./store.flows.ts";

const directory = join(import.meta.dir, "../packaging/azure");
type Column = { readonly name: string; readonly type: string };
type Table = {
  readonly name: string;
  readonly type: string;
  readonly properties: { readonly schema: { readonly name: string; readonly columns: readonly Column[] } };
};
type Rule = {
  readonly type: string;
  readonly kind: string;
  readonly properties: {
    readonly streamDeclarations: Readonly<Record<string, { readonly columns: readonly Column[] }>>;
    readonly dataFlows: readonly {
      readonly streams: readonly string[];
      readonly destinations: readonly string[];
      readonly transformKql: string;
      readonly outputStream: string;
    }[];
  };
};

const template = JSON.parse(readFileSync(join(directory, "fovea-logs.json"), "utf8"));
const resources: readonly (Table | Rule)[] = template.resources;
const rules = resources.filter(
  (resource): resource is Rule => resource.type === "Microsoft.Insights/dataCollectionRules",
);
const rule = rules[0]!.properties;
const tables = resources.filter(
  (resource): resource is Table => resource.type === "Microsoft.OperationalInsights/workspaces/tables",
);

const sets = {
  FoveaContainerNetworkLogs: azureFlowColumns,
  FoveaMetrics: azureMetricColumns,
} as const satisfies Readonly<Record<string, Readonly<Record<string, AzureColumnType>>>>;
const names = ["FoveaContainerNetworkLogs", "FoveaMetrics"] as const;

const expected = (columns: Readonly<Record<string, string>>): readonly Column[] =>
  Object.entries(columns).map(([name, type]) => ({ name, type }));

function tableColumns(name: string): readonly Column[] {
  const table = tables.find((resource) => resource.name.endsWith(`'/${name}_CL')]`));
  expect(table?.properties.schema.name).toBe(`${name}_CL`);
  return table?.properties.schema.columns ?? [];
}

describe.each(names)("%s", (name) => {
  test("the table has the columns of the encoder, no other", () => {
    // A table writes dateTime where a stream writes datetime; the other names are the same.
    const columns = tableColumns(name).map((column) => ({
      ...column,
      type: column.type.replace("dateTime", "datetime"),
    }));
    expect(columns).toEqual([...expected(sets[name])]);
  });

  test("the stream has the columns of the encoder, and goes to that table as it is", () => {
    expect(rule.streamDeclarations[`Custom-${name}`]?.columns).toEqual(expected(sets[name]));
    expect(rule.dataFlows.filter(({ streams }) => streams.includes(`Custom-${name}`))).toEqual([
      {
        streams: [`Custom-${name}`],
        destinations: ["workspace"],
        transformKql: "source",
        outputStream: `Custom-${name}_CL`,
      },
    ]);
  });

  test("the names are legal", () => {
    const reserved = ["_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"];
    const lower = Object.keys(sets[name]).map((column) => column.toLowerCase());
    expect(new Set(lower).size).toBe(lower.length);
    for (const column of [...Object.keys(sets[name]), `${name}_CL`]) {
      expect(column).toMatch(/^[A-Za-z][A-Za-z0-9_]{0,44}$/);
      expect(reserved.map((word) => word.toLowerCase())).not.toContain(column.toLowerCase());
    }
  });
});

const kinds: Readonly<Record<AzureColumnType, (value: unknown) => boolean>> = {
  string: (value) => typeof value === "string",
  datetime: (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value),
  boolean: (value) => typeof value === "boolean",
  long: (value) => Number.isSafeInteger(value),
  real: (value) => value === null || typeof value === "number",
  dynamic: (value) => typeof value === "object" && value !== null,
};

test("rows fill every column, with values of its type, and no other", () => {
  const spec: EncoderSpec = {
    ...{ format: "azure-logs", node: "n", cluster: "c", version: "v", externalLabels: { a: "b" } },
  };
  const limits = { bytesMax: 1_000_000, now: startAt };
  const flows = azureLogsEncoders.flows?.(spec, limits);
  for (let number = 0; number < 40; number++)
    flows?.add({ seq: number, ...flow(number, number === 3 ? { dnsError: "SERVFAIL" } : {}) }, `${number}`);
  const samples = azureLogsEncoders.metrics?.(spec, limits);
  for (const value of [1, Number.NaN, null]) samples?.add({ name: "m", labels: { l: "v" } }, startAt, value);
  for (const [name, encoder] of [
    ["FoveaContainerNetworkLogs", flows],
    ["FoveaMetrics", samples],
  ] as const) {
    const columns: Readonly<Record<string, AzureColumnType>> = sets[name];
    const body = encoder?.finish().body ?? new Uint8Array();
    const rows: Record<string, unknown>[] = JSON.parse(new TextDecoder().decode(Bun.gunzipSync(body)));
    const seen = new Set(rows.flatMap((row) => Object.keys(row)));
    expect(seen).toEqual(new Set(Object.keys(columns)));
    const wrong = rows.flatMap((row) =>
      Object.entries(row).filter(([key, value]) => !kinds[columns[key] ?? "string"](value)),
    );
    expect(wrong).toEqual([]);
  }
});

test("the rule has an endpoint of its own, and its streams are those of a sink's defaults", () => {
  expect(rules.map(({ kind }) => kind)).toEqual(["Direct"]);
  const sink = sinkSchema.parse({ name: "a", type: "azure-logs", url: "https://x", ruleId: "dcr-1" });
  expect(sink).toMatchObject({
    stream: "Custom-FoveaContainerNetworkLogs",
    metricsStream: "Custom-FoveaMetrics",
  });
  expect(Object.keys(rule.streamDeclarations)).toEqual(names.map((name) => `Custom-${name}`));
  expect(template.outputs).toHaveProperty("ruleId");
  expect(template.outputs).toHaveProperty("url");
});

test("every parameter and variable that is used is declared, and the other way round", () => {
  const text =
    JSON.stringify(template.resources) +
    JSON.stringify(template.outputs) +
    JSON.stringify(template.variables);
  for (const kind of ["parameters", "variables"] as const) {
    const used = [...text.matchAll(new RegExp(`${kind}\\('(\\w+)'\\)`, "g"))].map(([, name]) => name ?? "");
    expect(new Set(used)).toEqual(new Set(Object.keys(template[kind])));
  }
});

test("the README's configuration is one, and its commands name what is there", () => {
  const readme = readFileSync(join(directory, "README.md"), "utf8");
  const yaml = /```yaml\n(.*?)```/s.exec(readme)?.[1] ?? "";
  const { sinks } = Bun.YAML.parse(yaml) as { sinks: unknown[] };
  expect(sinkSchema.parse(sinks[0])).toMatchObject({ type: "azure-logs", signals: ["flows", "metrics"] });
  expect(readme).toContain("--template-file packaging/azure/fovea-logs.json");
  for (const [, name] of readme.matchAll(/\b(\w+)=(?:WORKSPACE|Basic|"\$principal")/g))
    expect(Object.keys(template.parameters)).toContain(name ?? "");
  const columns = [...Object.keys(azureFlowColumns), ...Object.keys(azureMetricColumns)];
  for (const [, name] of readme.matchAll(/^\| `(\w+)`/gm)) expect(columns).toContain(name ?? "");
});
