// The filters of an interface's clsact qdisc, as rtnetlink lists them, and what kind of qdisc it is.

import {
  attributeText,
  eachAttribute,
  NETLINK_ROUTE,
  type NetlinkMessage,
  openNetlink,
  runDump,
  runGet,
} from "./netlink.ts";

const RTM_NEWQDISC = 36;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
/** TC_H_INGRESS, and TC_H_CLSACT with the minor numbers of ingress and egress (include/uapi/linux/pkt_sched.h). */
const PARENT_OF_BOTH = 0xfffffff1;
const PARENTS = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_CHAIN = 11;
const TCMSG_BYTES = 20;

/** Zero is the handle of a priority as a whole. */
export type Filter = {
  readonly handle: number;
  readonly priority: number;
  /** bpf, flower, u32, … */
  readonly kind: string;
  /** Of a bpf filter: by libbpf its program's name and number. */
  readonly name: string;
};

/** In the order in which packets meet them. */
export type Filters = { readonly ingress: readonly Filter[]; readonly egress: readonly Filter[] };

/** struct tcmsg: index at 4, handle at 8, parent at 12, priority and protocol at 16. */
function tcMessage(ifindex: number, parent: number): Uint8Array {
  const body = new DataView(new ArrayBuffer(TCMSG_BYTES));
  body.setInt32(4, ifindex, true);
  body.setUint32(12, parent, true);
  return new Uint8Array(body.buffer);
}

/** Undefined for what stands in another chain than the first: packets come there by a filter's decision alone. */
function readFilter({ view, start, end }: NetlinkMessage): Filter | undefined {
  const TCA_BPF_NAME = 7;
  let kind = "";
  let name = "";
  let chain = 0;
  let options: readonly [number, number] | undefined;
  eachAttribute({ view, start: start + TCMSG_BYTES, end }, (type, from, to) => {
    if (type === TCA_KIND) kind = attributeText(view, from, to);
    if (type === TCA_CHAIN) chain = view.getUint32(from, true);
    if (type === TCA_OPTIONS) options = [from, to];
  });
  if (chain !== 0) return undefined;
  if (kind === "bpf" && options !== undefined)
    eachAttribute({ view, start: options[0], end: options[1] }, (type, from, to) => {
      if (type === TCA_BPF_NAME) name = attributeText(view, from, to);
    });
  return {
    ...{ handle: view.getUint32(start + 8, true), priority: view.getUint32(start + 16, true) >>> 16 },
    ...{ kind, name },
  };
}

/** None where there is no such qdisc or interface. */
export function readFilters(ifindex: number): Filters {
  using socket = openNetlink(NETLINK_ROUTE);
  const list = (parent: number): readonly Filter[] => {
    const found: Filter[] = [];
    runDump(socket, {
      what: `tc filters of interface ${ifindex}`,
      type: RTM_GETTFILTER,
      body: tcMessage(ifindex, parent),
      begin: () => void found.splice(0),
      each: (message) => {
        const filter = message.type === RTM_NEWTFILTER ? readFilter(message) : undefined;
        if (filter !== undefined) found.push(filter);
      },
    });
    return found;
  };
  return { ingress: list(PARENTS.ingress), egress: list(PARENTS.egress) };
}

/** Whether anybody's filter hangs on the qdisc: such a qdisc is not ours to remove. */
export function hasFilters(ifindex: number): boolean {
  const { ingress, egress } = readFilters(ifindex);
  return ingress.length + egress.length > 0;
}

/** Kind of the qdisc for what comes in: clsact or ingress. */
export function ingressQdisc(ifindex: number): string | undefined {
  using socket = openNetlink(NETLINK_ROUTE);
  let kind: string | undefined;
  runGet(socket, {
    what: `ingress qdisc of interface ${ifindex}`,
    type: RTM_GETQDISC,
    body: tcMessage(ifindex, PARENT_OF_BOTH),
    each: ({ type, view, start, end }) => {
      if (type !== RTM_NEWQDISC) return;
      eachAttribute({ view, start: start + TCMSG_BYTES, end }, (attribute, from, to) => {
        if (attribute === TCA_KIND) kind = attributeText(view, from, to);
      });
    },
  });
  return kind;
}
