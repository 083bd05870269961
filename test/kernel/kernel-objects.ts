// What a process holds in the kernel's eBPF, and whether it is still there when the process is not.

import { readdirSync, readFileSync } from "node:fs";

export type KernelObjects = {
  readonly programs: readonly number[];
  readonly maps: readonly number[];
  readonly links: readonly number[];
};

/** By the identifiers that the kernel writes beside each open descriptor. */
export function kernelObjects(pid: number): KernelObjects {
  const found = { prog: new Set<number>(), map: new Set<number>(), link: new Set<number>() };
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    const kind = /^link_id:/m.test(text) ? "link" : /^map_id:/m.test(text) ? "map" : "prog";
    const id = new RegExp(`^${kind}_id:\\s+(\\d+)`, "m").exec(text)?.[1];
    if (id !== undefined) found[kind].add(Number(id));
  }
  return { programs: [...found.prog], maps: [...found.map], links: [...found.link] };
}

const exists = (kind: "prog" | "map" | "link", id: number): boolean =>
  Bun.spawnSync(["bpftool", kind, "show", "id", String(id)]).exitCode === 0;

/** Those that the kernel still has. */
export function surviving({ programs, maps, links }: KernelObjects): readonly string[] {
  const of = (kind: "prog" | "map" | "link", ids: readonly number[]): readonly string[] =>
    ids.filter((id) => exists(kind, id)).map((id) => `${kind} ${id}`);
  return [...of("prog", programs), ...of("map", maps), ...of("link", links)];
}

/** Waits until the kernel has freed them, which it does a little after their last user; returns those that stay. */
export async function survivors(objects: KernelObjects, msMax = 20_000): Promise<readonly string[]> {
  const endAt = Date.now() + msMax;
  let left = surviving(objects);
  while (left.length > 0 && Date.now() < endAt) {
    await Bun.sleep(20);
    left = surviving(objects);
  }
  return left;
}
