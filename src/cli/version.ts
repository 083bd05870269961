// fovea version: what this binary is.

import type { Command } from "commander";
import { outputFlag } from "./flags.ts";
import { printJson, printLines } from "./output.ts";
import type { World } from "./world.ts";

export function addVersion(program: Command, { out, build }: World): void {
  program
    .command("version")
    .description("print the version")
    .addOption(outputFlag("text or json", ["text", "json"]))
    .action(async ({ output }: { output: string }) => {
      if (output === "json") return await printJson(out, build);
      const commit = build.commit === "" ? "" : ` (${build.commit})`;
      const { version, bun, os, arch } = build;
      return await printLines(out, [`fovea ${version}${commit}, ${os} ${arch}, Bun ${bun}`]);
    });
}
