// Programs on interfaces: by tcx link where the kernel has it (6.6), by a clsact filter otherwise.

import type { Framing } from "./interfaces.ts";
import type { Libbpf, TcFilter } from "./libbpf.ts";
import { closeFd, LibcError } from "./libc.ts";
import type { KernelObject } from "./object.ts";
import { hasFilters } from "./tc-filters.ts";

/** enum bpf_attach_type of the running kernel (include/uapi/linux/bpf.h since 6.6). */
const BPF_TCX_INGRESS = 46;
const BPF_TCX_EGRESS = 47;

const EINVAL = 22;

/** Ours among the filters of a clsact qdisc: a start replaces what a crash left. */
const FILTER: TcFilter = { handle: 0xf0, priority: 0xf0 };

export type AttachMode = "auto" | "tcx" | "clsact";
export type Kind = { readonly framing: Framing; readonly uplink: boolean };

type Fds = { readonly ingress: number; readonly egress: number };

/** `move` puts other programs in place without a gap. */
type Attached = { move(fds: Fds): void; detach(): void };

function programNames({ framing, uplink }: Kind): { ingress: string; egress: string } {
  const suffix = `${framing === "none" ? "_l3" : ""}${uplink ? "_up" : ""}`;
  return { ingress: `fovea_in${suffix}`, egress: `fovea_out${suffix}` };
}

function attachTcx(libbpf: Libbpf, ifindex: number, fds: Fds): Attached {
  using undo = new DisposableStack();
  const ingress = undo.adopt(libbpf.createLink(fds.ingress, ifindex, BPF_TCX_INGRESS), closeFd);
  const egress = undo.adopt(libbpf.createLink(fds.egress, ifindex, BPF_TCX_EGRESS), closeFd);
  const owned = undo.move();
  return {
    move(next) {
      libbpf.updateLink(ingress, next.ingress);
      libbpf.updateLink(egress, next.egress);
    },
    detach: () => owned.dispose(),
  };
}

const ENODEV = 19;
const ENOENT = 2;

/** On an interface or qdisc that is gone there is nothing left to undo. */
function unlessGone(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof LibcError) || ![ENODEV, ENOENT, EINVAL].includes(error.errno)) throw error;
  }
}

function attachClsact(libbpf: Libbpf, ifindex: number, fds: Fds): Attached {
  const ingress = { ifindex, attachPoint: 1 } as const;
  const egress = { ifindex, attachPoint: 2 } as const;
  const put = (next: Fds): void => {
    libbpf.attachTc(ingress, FILTER, next.ingress);
    libbpf.attachTc(egress, FILTER, next.egress);
  };
  using undo = new DisposableStack();
  // Removed only if this run made it and nobody else has come to use it.
  const made = libbpf.createTcHook(ingress);
  if (made)
    undo.defer(() =>
      unlessGone(() => {
        if (!hasFilters(ifindex)) libbpf.destroyTcHook(ifindex);
      }),
    );
  undo.defer(() => unlessGone(() => libbpf.detachTc(ingress, FILTER)));
  undo.defer(() => unlessGone(() => libbpf.detachTc(egress, FILTER)));
  put(fds);
  const owned = undo.move();
  return { move: put, detach: () => owned.dispose() };
}

export type Attachments = Disposable & {
  /** Attaches, or moves an interface to the programs of another kind. */
  attach(ifindex: number, kind: Kind): void;
  detach(ifindex: number): void;
  has(ifindex: number): boolean;
  /** What is in use: `auto` until the first interface. */
  mode(): AttachMode;
};

export function createAttachments(options: {
  libbpf: Libbpf;
  object: KernelObject;
  mode: AttachMode;
}): Attachments {
  const { libbpf, object } = options;
  const attached = new Map<number, { kind: Kind; by: Attached }>();
  let mode = options.mode;

  function fdsOf(kind: Kind): Fds {
    const names = programNames(kind);
    return { ingress: object.programFd(names.ingress), egress: object.programFd(names.egress) };
  }

  function open(ifindex: number, kind: Kind): Attached {
    const fds = fdsOf(kind);
    if (mode === "clsact") return attachClsact(libbpf, ifindex, fds);
    try {
      const by = attachTcx(libbpf, ifindex, fds);
      mode = "tcx";
      return by;
    } catch (error) {
      // Kernels before 6.6 do not know the attach type.
      if (mode === "tcx" || !(error instanceof LibcError) || error.errno !== EINVAL) throw error;
      const by = attachClsact(libbpf, ifindex, fds);
      mode = "clsact";
      return by;
    }
  }

  return {
    attach(ifindex, kind) {
      const now = attached.get(ifindex);
      if (now === undefined) attached.set(ifindex, { kind, by: open(ifindex, kind) });
      else if (now.kind.framing !== kind.framing || now.kind.uplink !== kind.uplink) {
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
    mode: () => mode,
    [Symbol.dispose]() {
      using undo = new DisposableStack();
      for (const { by } of attached.values()) undo.defer(() => by.detach());
      attached.clear();
    },
  };
}
