// Opening an eBPF object: whichever step fails, what was opened before is closed again, in reverse order.

import { expect, test } from "bun:test";
import type { Libbpf } from "../bpf/libbpf.ts";
import { openKernelObject } from "../bpf/object.ts";

const settings = {
  ...{ hashKeys: [1n, 3n, 5n, 7n, 9n], shards: 1, setsLog2: 0, cpus: 1, dnsEnabled: false },
  networkNamespace: 0,
};

/** A libbpf of which the call number `failAt` fails; `open` lists what is open, oldest first. */
function failingLibbpf(failAt: number) {
  const open: string[] = [];
  const closed: string[] = [];
  let calls = 0;
  const step = <T>(value: T): T => {
    calls++;
    if (calls === failAt) throw new Error(`call ${failAt}`);
    return value;
  };
  const take = <T>(name: string, value: T): T => {
    step(value);
    open.push(name);
    return value;
  };
  const give = (name: string): void => {
    open.splice(open.lastIndexOf(name), 1);
    closed.push(name);
  };
  const parts = {
    openObject: () => take("object", { object: 1, log: new Uint8Array(0) }),
    closeObject: () => give("object"),
    loadObject: () => step(undefined),
    findMap: () => step(2),
    findProgram: () => step(3),
    setInitialValue: () => step(undefined),
    setMaxEntries: () => step(undefined),
    skipProgram: () => step(undefined),
    attach: () => take("link", 4),
    detach: () => give("link"),
  };
  return { libbpf: parts as unknown as Libbpf, open, closed, calls: () => calls };
}

function openAndAttach(libbpf: Libbpf): void {
  using object = openKernelObject({
    libbpf,
    name: "drops",
    bytes: new Uint8Array(0),
    settings,
    mapEntries: { table: 2 },
    skip: ["other"],
  });
  object.attach("one");
  object.attach("two");
}

test("all goes well: links are closed before their object", () => {
  const { libbpf, open, closed } = failingLibbpf(0);
  openAndAttach(libbpf);
  expect(open).toEqual([]);
  expect(closed).toEqual(["link", "link", "object"]);
});

test("each step may fail, and nothing stays open", () => {
  const whole = failingLibbpf(0);
  openAndAttach(whole.libbpf);
  expect(whole.calls()).toBeGreaterThan(8);
  for (let failAt = 1; failAt <= whole.calls(); failAt++) {
    const { libbpf, open } = failingLibbpf(failAt);
    expect(() => openAndAttach(libbpf)).toThrow(`call ${failAt}`);
    expect(open).toEqual([]);
  }
});
