// The binary on the kernel that Debian 12 ships, 6.1: older verifiers refuse what newer ones follow, and without tcx the
// programs hang on clsact. It boots in QEMU, where it counts pings between two namespaces.

import { beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { boot, findKernel, type Kernel, machineLacks, makeTree } from "./old-kernel.rig.ts";

const binary = join(import.meta.dir, "../../dist/fovea");
const bootMsMax = 240_000;
const pings = 20;
const pingBytes = 98; // Ethernet, IPv4, ICMP, and the 56 bytes that ping sends.

/** From 6.6 on there is tcx, and from 6.8 on verifiers follow what older ones do not. */
const isOld = ({ release }: Kernel): boolean => {
  const [major = 0, minor = 0] = release.split(".").map(Number);
  return major < 6 || (major === 6 && minor < 6);
};

const kernel = findKernel();
const lacks = [
  ...machineLacks,
  ...(kernel === undefined ? ["a kernel package of this distribution, linux-image-cloud-amd64"] : []),
  ...(kernel === undefined || isOld(kernel)
    ? []
    : [`a kernel before 6.6: this distribution's is ${kernel.release}`]),
];
if (lacks.length > 0)
  console.error(`SKIPPED: the old kernel is not booted; missing here: ${lacks.join(", ")}`);

/** What the machine printed, by the names that its /init gives. */
function partsOf(printed: string): (name: string) => string {
  const parts = new Map<string, string>();
  for (const part of printed.split(/^@@ /m).slice(1)) {
    const [head = "", ...lines] = part.split("\n");
    const [name = "", ...words] = head.split(" ");
    parts.set(name, [...words, ...lines].join("\n").trim());
  }
  return (name) => {
    const part = parts.get(name);
    if (part === undefined || !parts.has("end"))
      throw new Error(`the machine did not get to its end; it printed last: ${printed.slice(-2000)}`);
    return part;
  };
}

type Collector = { readonly name: string; readonly ok: boolean; readonly missing: readonly string[] };
type Flow = {
  readonly protocol: number;
  readonly verdict: string;
  readonly direction: string;
  readonly packets: number;
};

describe.skipIf(lacks.length > 0)("a kernel before 6.6", () => {
  let part: (name: string) => string = () => "";

  beforeAll(async () => {
    if (!existsSync(binary)) throw new Error("dist/fovea is missing: npm run build makes it");
    if (kernel === undefined) throw new Error("no kernel");
    const tree = makeTree({
      kernel,
      init: join(import.meta.dir, "old-kernel.init.sh"),
      programs: {
        "/bin/fovea": binary,
        "/sbin/ip": Bun.which("ip") ?? "/sbin/ip",
        "/sbin/tc": Bun.which("tc") ?? "/sbin/tc",
      },
      modules: ["veth", "sch_ingress", "cls_bpf", "tcp_diag", "udp_diag", "raw_diag"],
    });
    part = partsOf(await boot(kernel, tree, { env: `PINGS=${pings}`, msMax: bootMsMax }));
    expect(part("kernel")).toBe(kernel.release);
  }, bootMsMax + 30_000);

  test("every collector works", () => {
    const { collectors } = JSON.parse(part("check")) as { readonly collectors: readonly Collector[] };
    expect(collectors.filter(({ ok, missing }) => !ok || missing.length > 0)).toEqual([]);
    expect(collectors.map(({ name }) => name)).toContain("flows");
    expect(part("check-code")).toBe("0");
  });

  test("totals are what the interface counted, and what was sent", () => {
    expect(part("interface").split("\n")).toEqual([`${pings}`, `${pings}`]);
    const scrape = part("scrape");
    for (const direction of ["ingress", "egress"]) {
      expect(scrape).toMatch(new RegExp(`^kappie_forward_count.*"${direction}".* ${pings}$`, "m"));
      expect(scrape).toMatch(
        new RegExp(`^kappie_forward_bytes.*"${direction}".* ${pings * pingBytes}$`, "m"),
      );
    }
    const untracked = scrape.split("\n").filter((line) => line.startsWith("fovea_packets_untracked_total"));
    expect(untracked.filter((line) => !line.endsWith(" 0"))).toEqual([]);
    expect(untracked.length).toBeGreaterThan(0);
  });

  test("flow rows are as many, in each direction", () => {
    const { flows } = JSON.parse(part("flows")) as { readonly flows: readonly Flow[] };
    const sum = (direction: string): number =>
      flows
        .filter((flow) => flow.protocol === 1 && flow.verdict === "forwarded" && flow.direction === direction)
        .reduce((all, { packets }) => all + packets, 0);
    expect([sum("ingress"), sum("egress")]).toEqual([pings, pings]);
  });

  test("it hangs on clsact, which goes with it", () => {
    expect(part("qdiscs-during")).toContain("clsact");
    expect(part("run-code")).toBe("0");
    expect(part("qdiscs-after")).not.toContain("clsact");
  });
});
