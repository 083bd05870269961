// fovea check: opens every collector, takes one snapshot, and tells what cannot be seen here and what that costs.

import type { Command } from "commander";
import type { Config } from "../config-schema.ts";
import { createDnsNames } from "../identity/dns.ts";
import { type CollectorHealth, createNode, type NodeModel } from "../node.ts";
import { configFileFlag, readConfig } from "./config.ts";
import { outputFlag } from "./flags.ts";
import { printJson, printLines } from "./output.ts";
import { type Column, createTable } from "./table.ts";
import { coloured, harmless, wrapTo } from "./terminal.ts";
import type { World } from "./world.ts";

// Longer than any collector needs; one that hangs must not hang the check.
const snapshotMs = 15_000;

const stateOf = ({ success, limits }: CollectorHealth): "yes" | "partly" | "no" =>
  success ? (limits.length === 0 ? "yes" : "partly") : "no";

const missingOf = ({ error, limits }: CollectorHealth): readonly string[] => [
  ...(error === undefined ? [] : [error]),
  ...limits,
];

const stateColours = { yes: "green", partly: "yellow", no: "red" } as const;

const columns: readonly Column<CollectorHealth>[] = [
  { title: "COLLECTOR", rank: 1, value: ({ name }) => name },
  { title: "OK", rank: 1, value: stateOf, colour: (health) => stateColours[stateOf(health)] },
  {
    title: "MISSING, AND WHAT THAT COSTS",
    rank: 2,
    widthMin: 20,
    wraps: true,
    value: missingOf,
  },
];

/** Sections that a collector which failed would have given are absent; nothing else is known of them. */
async function observe(world: World, config: Config): Promise<NodeModel> {
  await using backend = await world.openBackend(config, { owner: "check" });
  const node = createNode({ names: createDnsNames({ namesMax: 0 }), now: Date.now });
  const signal = AbortSignal.any([world.stop, AbortSignal.timeout(snapshotMs)]);
  const { model } = await node.observe(backend.collectors, signal);
  return model;
}

function summary({ health, state }: NodeModel): readonly string[] {
  const failed = health.filter(({ success }) => !success).length;
  const counted =
    failed === 0
      ? `all ${health.length} collectors work`
      : `${failed} of ${health.length} collectors do not work; the others do, and run goes on without these`;
  const uplinks = state.totals?.uplinks ?? [];
  const attached = state.attached ?? [];
  return [
    counted,
    ...(attached.length === 0 ? [] : [`attached to: ${attached.join(", ")}`]),
    ...(uplinks.length === 0 ? [] : [`uplinks: ${uplinks.join(", ")}`]),
  ];
}

async function check(world: World, options: { config?: string; output: string }): Promise<boolean> {
  const model = await observe(world, readConfig(world, options.config));
  const ok = model.health.every(({ success }) => success);
  const { out } = world;
  if (options.output === "json") {
    const collectors = model.health.map((health) => ({
      name: health.name,
      ok: health.success,
      missing: missingOf(health),
    }));
    const { attached = [], totals } = model.state;
    await printJson(out, { ok, collectors, attached, uplinks: totals?.uplinks ?? [] });
    return ok;
  }
  const width = out.columns ?? Number.POSITIVE_INFINITY;
  const [first = "", ...rest] = summary(model).flatMap((line) => wrapTo(harmless(line), width));
  await printLines(out, [
    ...createTable(columns, out).lines(model.health),
    "",
    coloured(first, ok ? "green" : "red", out.colours),
    ...rest,
  ]);
  return ok;
}

export function addCheck(program: Command, world: World, finish: (code: number) => void): void {
  program
    .command("check")
    .description("open every collector, take one snapshot, tell what cannot be seen here; exit 0 or 1")
    .addOption(configFileFlag())
    .addOption(outputFlag("table or json", ["table", "json"]))
    .action(async (options: { config?: string; output: string }) => {
      finish((await check(world, options)) ? 0 : 1);
    });
}
