// Which of a driver's statistics are kept.

import { expect, test } from "bun:test";
import { chooseNames } from "../bpf/proc/ethtool.ts";
import { deviceStatisticNames } from "../bpf/proc/net-files.ts";

const known = new Set(deviceStatisticNames);

test("counters are kept once, under the driver's name", () => {
  const names = [
    "rx_queue_0_drops",
    "rx_bytes",
    "",
    "peer_ifindex",
    "rx_queue_0_drops",
    "link_speed",
    "tx_kicks",
  ];
  expect(chooseNames(names, { known, statisticsMax: 10 })).toEqual({
    names: ["rx_queue_0_drops", undefined, undefined, undefined, undefined, undefined, "tx_kicks"],
    beyond: 0,
  });
});

test("names that only look like settings are kept", () => {
  const names = ["rx_mtu_errors", "speed_changes", "ifindex_misses"];
  expect(chooseNames(names, { known, statisticsMax: 10 }).names).toEqual(names);
});

test("past statisticsMax they are counted, and what is not kept takes no place", () => {
  const names = ["rx_bytes", "a", "ifindex", "b", "c", "d"];
  expect(chooseNames(names, { known, statisticsMax: 2 })).toEqual({
    names: [undefined, "a", undefined, "b", undefined, undefined],
    beyond: 2,
  });
});
