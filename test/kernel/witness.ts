// Attaches another's programs beside ours, and reads what reached them.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { bindLibbpf } from "../../bpf/libbpf.ts";
import { closeFd } from "../../bpf/libc.ts";
import { loadLibraries } from "../../bpf/native.ts";
import { openKernelObject } from "../../bpf/object.ts";
import { linkFacts } from "./lab.ts";
import type { TestNamespace } from "./proc-namespace.ts";

const BPF_TCX_INGRESS = 46;
const BPF_TCX_EGRESS = 47;

export type Witness = Disposable & { seen(): { ingress: number; egress: number } };

/** `priority` of a tc filter, in a clsact qdisc that must be there; none: a tcx link, after those that are there. */
export function attachWitness(options: {
  readonly object: Uint8Array;
  readonly at: TestNamespace;
  readonly device: string;
  readonly priority?: number;
}): Witness {
  const { at, device, priority } = options;
  using undo = new DisposableStack();
  const libbpf = bindLibbpf(
    loadLibraries({ fallbackDirectory: join(tmpdir(), `fovea-test-${process.pid}`) }),
  );
  const object = undo.use(
    openKernelObject({ libbpf, name: "witness", bytes: options.object, mapEntries: {} }),
  );
  const { ifindex } = linkFacts(at, device);
  const [ingress, egress] = [object.programFd("witness_in"), object.programFd("witness_out")];
  at.inside(() => {
    if (priority === undefined) {
      undo.adopt(libbpf.createLink(ingress, ifindex, BPF_TCX_INGRESS), closeFd);
      undo.adopt(libbpf.createLink(egress, ifindex, BPF_TCX_EGRESS), closeFd);
      return;
    }
    const filter = { handle: 1, priority };
    libbpf.attachTc({ ifindex, attachPoint: 1 }, filter, ingress);
    libbpf.attachTc({ ifindex, attachPoint: 2 }, filter, egress);
  });
  const counts = new BigUint64Array(object.mapArray(".data.seen", 1, 16, false).buffer, 0, 2);
  const owned = undo.move();
  return {
    seen: () => ({ ingress: Number(counts[0]), egress: Number(counts[1]) }),
    [Symbol.dispose]: () => owned.dispose(),
  };
}
