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

/**
 * `priority` of a tc filter, in a clsact qdisc that must be there, in place of what has that handle; none: a tcx link,
 * after those that are there. `verdict` 0 lets packets pass and ends the chain; none leaves it to the next program.
 */
export function attachWitness(options: {
  readonly object: Uint8Array;
  readonly at: TestNamespace;
  readonly device: string;
  readonly priority?: number;
  readonly handle?: number;
  readonly verdict?: number;
}): Witness {
  const { at, device, priority, handle = 1, verdict } = options;
  using undo = new DisposableStack();
  const libbpf = bindLibbpf(
    loadLibraries({ fallbackDirectory: join(tmpdir(), `fovea-test-${process.pid}`) }),
  );
  const object = undo.use(
    openKernelObject({ libbpf, name: "witness", bytes: options.object, mapEntries: {} }),
  );
  const counts = new BigInt64Array(object.mapArray(".data.seen", 1, 24, true).buffer, 0, 3);
  if (verdict !== undefined) counts[2] = BigInt(verdict);
  const { ifindex } = linkFacts(at, device);
  const [ingress, egress] = [object.programFd("witness_in"), object.programFd("witness_out")];
  at.inside(() => {
    if (priority === undefined) {
      undo.adopt(libbpf.createLink(ingress, ifindex, BPF_TCX_INGRESS), closeFd);
      undo.adopt(libbpf.createLink(egress, ifindex, BPF_TCX_EGRESS), closeFd);
      return;
    }
    const filter = { handle, priority };
    libbpf.attachTc({ ifindex, attachPoint: 1 }, filter, { programFd: ingress, replace: true });
    libbpf.attachTc({ ifindex, attachPoint: 2 }, filter, { programFd: egress, replace: true });
  });
  const owned = undo.move();
  return {
    seen: () => ({ ingress: Number(counts[0]), egress: Number(counts[1]) }),
    [Symbol.dispose]: () => owned.dispose(),
  };
}
