// Names of drop reasons, from the BTF of the running kernel and its modules: the numbers move between kernels.

import { readdirSync } from "node:fs";
import type { Btf, Libbpf } from "./libbpf.ts";

const PREFIX = "SKB_DROP_REASON_";
const SUBSYSTEM_PREFIX = "SKB_DROP_REASON_SUBSYS_";

/** Enums in which subsystems list their own reasons (include/net/dropreason.h says which subsystems there are). */
const subsystemEnums = ["mac80211_drop_reason", "ovs_drop_reason"];

export type DropReasons = {
  /** `reason` is the number that kfree_skb gave, subsystem in the high half. */
  name(reason: number): string;
  readonly known: number;
};

/** The kernel's index of a reason to its number: subsystem from bit 8 on (see drop_index in drops.bpf.c). */
export const reasonOfIndex = (index: number): number => ((index >>> 8) << 16) | (index & 0xff);

type Named = readonly { name: string; value: number }[];

const strip = (name: string): string => (name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name);

/** Pure: core reasons, subsystem numbers and the subsystems' own reasons to names. */
export function nameReasons(core: Named, subsystems: Named, own: Named): DropReasons {
  const names = new Map<number, string>();
  for (const { name, value } of [...core, ...own]) if (value > 0) names.set(value, strip(name));
  const subsystemNames = new Map(
    subsystems.map(({ name, value }) => [value, name.slice(SUBSYSTEM_PREFIX.length)] as const),
  );
  const unnamed = (reason: number): string => {
    const subsystem = reason >>> 16;
    if (reason === 0) return "UNKNOWN"; // A kernel before 5.17 gives none.
    if (subsystem === 0) return `REASON_${reason}`;
    return `${subsystemNames.get(subsystem) ?? `SUBSYS_${subsystem}`}_${reason & 0xffff}`;
  };
  return { name: (reason) => names.get(reason) ?? unnamed(reason), known: names.size };
}

/** Modules that carry BTF of their own; built-in ones are in vmlinux. */
function modulesWithBtf(): readonly string[] {
  return readdirSync("/sys/kernel/btf").filter((name) => name !== "vmlinux");
}

function moduleReasons(libbpf: Libbpf, vmlinux: Btf): Named {
  const found: { name: string; value: number }[] = [];
  for (const module of modulesWithBtf().filter((name) => /^(mac80211|openvswitch)$/.test(name))) {
    using undo = new DisposableStack();
    const btf = undo.adopt(libbpf.moduleBtf(module, vmlinux), libbpf.freeBtf);
    for (const name of subsystemEnums) found.push(...(libbpf.enumMembers(btf, name) ?? []));
  }
  return found;
}

/** Reads the running kernel's names. A kernel without the enum (before 5.17) knows no reasons. */
export function readDropReasons(libbpf: Libbpf): DropReasons {
  using undo = new DisposableStack();
  const vmlinux = undo.adopt(libbpf.vmlinuxBtf(), libbpf.freeBtf);
  const core = libbpf.enumMembers(vmlinux, "skb_drop_reason") ?? [];
  const subsystems = libbpf.enumMembers(vmlinux, "skb_drop_reason_subsys") ?? [];
  const builtIn = subsystemEnums.flatMap((name) => libbpf.enumMembers(vmlinux, name) ?? []);
  return nameReasons(core, subsystems, [...builtIn, ...moduleReasons(libbpf, vmlinux)]);
}
