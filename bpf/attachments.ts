// Programs on interfaces: by tcx link where the kernel has it (6.6), by a clsact filter otherwise.

import { type Attached, attachClsact, type Fds, type Owner } from "./clsact.ts";
import type { Framing } from "./interfaces.ts";
import type { Libbpf } from "./libbpf.ts";
import { closeFd, EINVAL, LibcError } from "./libc.ts";
import type { KernelObject } from "./object.ts";

/** enum bpf_attach_type of the running kernel (include/uapi/linux/bpf.h since 6.6). */
const BPF_TCX_INGRESS = 46;
const BPF_TCX_EGRESS = 47;

/** With no other program named: before all that are there. */
const BPF_F_BEFORE = 1 << 3;

export type AttachMode = "auto" | "tcx" | "clsact";
export type Kind = { readonly framing: Framing; readonly uplink: boolean };

function programNames({ framing, uplink }: Kind): { ingress: string; egress: string } {
  const suffix = `${framing === "none" ? "_l3" : ""}${uplink ? "_up" : ""}`;
  return { ingress: `fovea_in${suffix}`, egress: `fovea_out${suffix}` };
}

/**
 * First of both lists, because a program that gives a verdict (TCX_PASS, TCX_REDIRECT, TCX_DROP) ends the list, and ours
 * give none. Coming in, that is what the wire brought. Going out, it is what the stack hands over: what a later program
 * drops or redirects counts as sent all the same, and is counted before it is rewritten. One that puts itself before
 * ours afterwards takes from our sight what it ends, and the kernel tells nobody.
 */
function attachTcx(libbpf: Libbpf, ifindex: number, fds: Fds): Attached {
  using undo = new DisposableStack();
  const link = (fd: number, type: number): number =>
    undo.adopt(libbpf.createLink(fd, ifindex, type, BPF_F_BEFORE), closeFd);
  const ingress = link(fds.ingress, BPF_TCX_INGRESS);
  const egress = link(fds.egress, BPF_TCX_EGRESS);
  const owned = undo.move();
  return {
    move(next) {
      libbpf.updateLink(ingress, next.ingress);
      libbpf.updateLink(egress, next.egress);
    },
    detach: () => owned.dispose(),
    // A link that was detached by force stays open and leads nowhere.
    stands: () => [ingress, egress].every((fd) => libbpf.linkInterface(fd) === ifindex),
    before: () => undefined,
  };
}

export type Attachments = Disposable & {
  /** Attaches, or moves an interface to the programs of another kind. `again` after they were found removed. */
  attach(ifindex: number, kind: Kind, again: boolean): void;
  detach(ifindex: number): void;
  has(ifindex: number): boolean;
  /** Are our programs where we put them? `priority` is the lowest of tc filters that were touched meanwhile. */
  stands(ifindex: number, priority: number): boolean;
  /** Another's program that stands before ours, and may end the way of packets that ours then never see. */
  before(ifindex: number): string | undefined;
  /** What is in use: `auto` until the first interface. */
  mode(): AttachMode;
};

export function createAttachments(options: {
  libbpf: Libbpf;
  object: KernelObject;
  mode: AttachMode;
  owner: Owner;
}): Attachments {
  const { libbpf, object, owner } = options;
  const attached = new Map<number, { kind: Kind; by: Attached }>();
  let mode = options.mode;

  function fdsOf(kind: Kind): Fds {
    const names = programNames(kind);
    return { ingress: object.programFd(names.ingress), egress: object.programFd(names.egress) };
  }

  function open(ifindex: number, kind: Kind, again: boolean): Attached {
    const fds = fdsOf(kind);
    const byClsact = (): Attached => attachClsact(libbpf, { ifindex, fds, owner, again });
    if (mode === "clsact") return byClsact();
    try {
      const by = attachTcx(libbpf, ifindex, fds);
      mode = "tcx";
      return by;
    } catch (error) {
      // Kernels before 6.6 do not know the attach type.
      if (mode === "tcx" || !(error instanceof LibcError) || error.errno !== EINVAL) throw error;
      const by = byClsact();
      mode = "clsact";
      return by;
    }
  }

  return {
    attach(ifindex, kind, again) {
      const now = attached.get(ifindex);
      if (now === undefined) attached.set(ifindex, { kind, by: open(ifindex, kind, again) });
      else if (now.kind.framing !== kind.framing || now.kind.uplink !== kind.uplink) {
        // What is not in its place stays of the old kind until that is noticed.
        if (!now.by.stands(Number.POSITIVE_INFINITY)) return;
        now.by.move(fdsOf(kind));
        now.kind = kind;
      }
    },
    detach(ifindex) {
      const found = attached.get(ifindex);
      attached.delete(ifindex);
      found?.by.detach();
    },
    has: (ifindex) => attached.has(ifindex),
    stands: (ifindex, priority) => attached.get(ifindex)?.by.stands(priority) ?? false,
    before: (ifindex) => attached.get(ifindex)?.by.before(),
    mode: () => mode,
    [Symbol.dispose]() {
      using undo = new DisposableStack();
      for (const { by } of attached.values()) undo.defer(() => by.detach());
      attached.clear();
    },
  };
}
