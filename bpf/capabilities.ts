// Which capabilities this process lacks, so that a refusal can be told by its cause.

import { readFileSync } from "node:fs";

/** Bits of include/uapi/linux/capability.h. */
const bits = {
  NET_ADMIN: 12,
  SYS_PTRACE: 19,
  SYS_ADMIN: 21,
  SYS_RESOURCE: 24,
  PERFMON: 38,
  BPF: 39,
} as const;
export type Capability = keyof typeof bits;

/** CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, as it does in the kernel. */
export function missingIn(effective: bigint, needed: readonly Capability[]): string[] {
  const has = (capability: Capability): boolean => ((effective >> BigInt(bits[capability])) & 1n) === 1n;
  const implied = (capability: Capability): boolean =>
    (capability === "BPF" || capability === "PERFMON") && has("SYS_ADMIN");
  return needed.filter((capability) => !has(capability) && !implied(capability)).map((name) => `CAP_${name}`);
}

/** Of those needed, the ones that this process does not hold, as CAP_ names. */
export function missingCapabilities(needed: readonly Capability[], status = "/proc/self/status"): string[] {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(status, "utf8"))?.[1] ?? "0";
  return missingIn(BigInt(`0x${effective}`), needed);
}
