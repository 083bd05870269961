// The generator of the kernel contract, and what is computed from the kernel's numbers.

import { describe, expect, test } from "bun:test";
import { missingIn } from "../bpf/capabilities.ts";
import { jiffyNs } from "../bpf/clock.ts";
import { cpuCount, ringBytes, setsLog2 } from "../bpf/datapath.ts";
import { nameReasons } from "../bpf/drop-reasons.ts";
import { generate } from "../bpf/gen.ts";
import { countFlags } from "../bpf/uplink-totals.ts";

const u32 = { id: 1, kind: "INT", name: "u32", size: 4 };
const u8 = { id: 2, kind: "INT", name: "u8", size: 1 };
const struct = (members: { name: string; type_id: number; bits_offset: number }[], size: number) => ({
  ...{ id: 3, kind: "STRUCT", name: "drop_event", size, members },
});

describe("generator", () => {
  test("offsets in camel case, padding left out, enum members without their prefix", () => {
    const event = struct(
      [
        { name: "drop_reason", type_id: 1, bits_offset: 0 },
        { name: "_pad", type_id: 1, bits_offset: 32 },
      ],
      8,
    );
    const hook = { id: 4, kind: "ENUM", name: "hook", size: 4, values: [{ name: "HOOK_IN", val: 1 }] };
    const text = generate({ types: [u32, event, hook] });
    expect(text).toContain("export const dropEvent = {\n  size: 8,\n  dropReason: 0,\n} as const;");
    expect(text).toContain("export const hook = {\n  IN: 1,\n} as const;");
  });

  test("refuses implicit padding between members and at the end", () => {
    const hole = struct(
      [
        { name: "a", type_id: 2, bits_offset: 0 },
        { name: "b", type_id: 1, bits_offset: 32 },
      ],
      8,
    );
    expect(() => generate({ types: [u32, u8, hole] })).toThrow(
      "drop_event has an implicit hole of 3 bytes before b",
    );
    const end = struct([{ name: "a", type_id: 2, bits_offset: 0 }], 4);
    expect(() => generate({ types: [u8, end] })).toThrow("implicit hole at its end");
  });
});

describe("drop reasons", () => {
  const reasons = nameReasons(
    [
      { name: "SKB_NOT_DROPPED_YET", value: 0 },
      { name: "SKB_DROP_REASON_NO_SOCKET", value: 3 },
    ],
    [{ name: "SKB_DROP_REASON_SUBSYS_OPENVSWITCH", value: 2 }],
    [{ name: "OVS_DROP_LAST_ACTION", value: 0x20001 }],
  );
  test("names of the kernel, of a subsystem, and of what has none", () => {
    const names = [3, 0x20001, 0x20009, 0x50001, 77, 0].map((reason) => reasons.name(reason));
    expect(names).toEqual([
      ...["NO_SOCKET", "OVS_DROP_LAST_ACTION", "OPENVSWITCH_9", "SUBSYS_5_1", "REASON_77", "UNKNOWN"],
    ]);
  });
});

test("TCP flags: only ACK and ECE stand in each packet of a buffer; a SYN-ACK is no SYN and no ACK", () => {
  const buffers = new Map([
    [0x02, 3],
    [0x12, 2],
    [0x10, 5],
    [0x19, 1],
    [0x50, 1],
  ]);
  const counts = countFlags(
    (flags) => buffers.get(flags) ?? 0,
    (flags) => (buffers.get(flags) ?? 0) * 10,
  );
  expect(counts).toEqual({
    ...{ FIN: 1, SYN: 3, "SYN-ACK": 2, RST: 0, PSH: 1, ACK: 70, URG: 0, ECE: 10, CWR: 0 },
  });
});

test("sizes from limits: CPUs of a list, sets of a shard, ring buffers", () => {
  expect(["0", "0-3", "0-1,4-7", "2"].map(cpuCount)).toEqual([1, 4, 8, 3]);
  expect(() => cpuCount("none")).toThrow('"none" is not a list of CPUs');
  expect(setsLog2(32 << 20, 2)).toBe(13);
  expect(setsLog2(1, 64)).toBe(0);
  expect(ringBytes(5000)).toBe(4096);
  expect(ringBytes(1 << 20)).toBe(1 << 20);
});

test("the HZ of the kernel is the one that two readings agree with", () => {
  expect(jiffyNs(250, 1e9)).toBe(4_000_000);
  expect(jiffyNs(999, 1e9)).toBe(1_000_000);
  expect(jiffyNs(299, 1e9)).toBeCloseTo(1e9 / 300);
});

test("capabilities that are missing are named; CAP_SYS_ADMIN stands for those split off from it", () => {
  const needed = ["BPF", "PERFMON", "NET_ADMIN"] as const;
  expect(missingIn(0n, needed)).toEqual(["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
  expect(missingIn(1n << 21n, needed)).toEqual(["CAP_NET_ADMIN"]);
  expect(missingIn((1n << 39n) | (1n << 38n) | (1n << 12n), needed)).toEqual([]);
});
