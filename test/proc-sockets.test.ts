// What sockstat tells: UDP sockets, and whether a namespace has TCP sockets to ask for.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { emptyTally } from "../bpf/proc/inet-diag.ts";
import { readSocketUse, restMs } from "../bpf/proc/sockets.ts";

const AF_INET = 2;
const AF_INET6 = 10;

const tcp = (inuse: number, tw: number) =>
  `TCP: inuse ${inuse} orphan 0 tw ${tw} alloc 9 mem 9\nUDP: inuse 3 mem 2\n`;
const tcp6 = (inuse: number) => `TCP6: inuse ${inuse}\nUDP6: inuse 4\n`;

describe("socket use", () => {
  test("of a captured file", () => {
    const file = join(import.meta.dir, "fixtures/proc/odd/net/sockstat");
    expect(readSocketUse({ sockstat: readFileSync(file, "utf8") })).toEqual({
      udp: 5,
      tcpFamilies: [AF_INET, AF_INET6], // Two in TIME_WAIT may be of either family.
    });
  });

  test.each([
    [0, 0, 0, []],
    [1, 0, 0, [AF_INET]],
    [0, 1, 0, [AF_INET, AF_INET6]],
    [0, 0, 1, [AF_INET6]],
    [2, 0, 2, [AF_INET, AF_INET6]],
  ])("%d IPv4 sockets, %d in TIME_WAIT, %d IPv6 sockets", (ipv4, timeWait, ipv6, families) => {
    expect(readSocketUse({ sockstat: tcp(ipv4, timeWait), sockstat6: tcp6(ipv6) })).toEqual({
      udp: 7,
      tcpFamilies: families,
    });
  });

  test("without IPv6, and without either", () => {
    expect(readSocketUse({ sockstat: tcp(1, 0) })).toEqual({ udp: 3, tcpFamilies: [AF_INET] });
    expect(readSocketUse({})).toEqual({ udp: 0, tcpFamilies: [] });
  });
});

test("many sockets are asked for less often", () => {
  const restOf = (established: number, timeWait: number): number => {
    const tally = emptyTally(1);
    tally.states[1] = established;
    tally.states[6] = timeWait;
    return restMs(tally);
  };
  expect([restOf(0, 0), restOf(5000, 4999), restOf(5000, 5000), restOf(20_000, 80_000)]).toEqual([
    0, 0, 500, 5000,
  ]);
});
