// Whether anybody's filter hangs on an interface's clsact qdisc: such a qdisc is not ours to remove.

import { NETLINK_ROUTE, openNetlink, runDump } from "./netlink.ts";

const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
/** TC_H_CLSACT with the minor numbers of ingress and egress (include/uapi/linux/pkt_sched.h). */
const PARENTS = [0xfffffff2, 0xfffffff3];

/** struct tcmsg. */
function filterQuery(ifindex: number, parent: number): Uint8Array {
  const body = new DataView(new ArrayBuffer(20));
  body.setInt32(4, ifindex, true);
  body.setUint32(12, parent, true);
  return new Uint8Array(body.buffer);
}

export function hasFilters(ifindex: number): boolean {
  using socket = openNetlink(NETLINK_ROUTE);
  let found = 0;
  for (const parent of PARENTS) {
    runDump(socket, {
      what: `tc filters of interface ${ifindex}`,
      type: RTM_GETTFILTER,
      body: filterQuery(ifindex, parent),
      begin: () => undefined,
      each: ({ type }) => {
        if (type === RTM_NEWTFILTER) found++;
      },
    });
  }
  return found > 0;
}
