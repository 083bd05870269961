// What a platform with a virtual switch adds to the state of a node.

import type { State } from "../src/node.ts";

export const endpointState: State = {
  endpoints: [
    {
      ...{
        id: "7eb7bc15-4510-4225-8535-9f121f8fc438",
        name: "pod-a",
        address: "10.244.1.7",
        network: "azure",
      },
      forward: { ingress: { packets: 300, bytes: 40_000 }, egress: { packets: 400, bytes: 50_000 } },
      drops: [
        { reason: "endpoint", direction: "ingress", packets: 5 },
        { reason: "aclrule", direction: "egress", packets: 7 },
      ],
      tcpFlags: [{ direction: "ingress", flag: "SYN", packets: 12 }],
      tcpStatistics: [{ direction: "ingress", statistic: "ResetCount", count: 2 }],
    },
    {
      ...{ id: "0c9a7a52-58a6-4a1f-9a36-30b1c2b45f10", name: "nat", address: "", network: "nat" },
      forward: { ingress: { packets: 0, bytes: 0 }, egress: { packets: 1, bytes: 60 } },
      ...{ drops: [], tcpFlags: [], tcpStatistics: [] },
    },
  ],
  endpointUse: {
    ...{ local: 2, remote: 3, overflow: 0, resets: 1, replaced: 4 },
    sources: [
      { source: "vfpctrl", endpoints: 1 },
      { source: "none", endpoints: 1 },
    ],
    failures: [{ source: "hns-stats", failures: 6 }],
  },
  protocols: [{ protocol: "udp", statistics: { InDatagrams: 8, NoPorts: 9 } }],
};
