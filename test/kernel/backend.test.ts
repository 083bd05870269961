// The contract of every Backend, kept by the Linux one.

import { afterAll, describe } from "bun:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLinuxBackend } from "../../bpf/backend.ts";
import type { Backend } from "../../src/snapshot.ts";
import { backendContract } from "../backend.contract.ts";
import { hostV4, openPair, outsideV4, outsideV6 } from "./lab.ts";
import { zeros } from "./packets.ts";
import { mayMakeNamespaces, type TestNamespace } from "./proc-namespace.ts";
import { openUdp } from "./sockets.ts";

/** Opens, asks and closes with this thread inside the namespace: interfaces are those of the namespace it is in. */
function openInside(at: TestNamespace): Backend {
  const backend = at.inside(() =>
    openLinuxBackend({
      interfaces: { include: ["up*"], exclude: [], loopback: false, uplinks: ["up0"], attach: "auto" },
      flows: { idleMs: 50, activeMs: 0, flowsMax: 1000, tableBytes: 1 << 20, spillBytes: 1 << 16 },
      owner: "service",
      dropsMax: 1000,
      dnsEnabled: true,
      sockets: { remotesMax: 10, namespacesMax: 4, everyMs: 1000 },
      libraryDirectory: join(tmpdir(), `fovea-test-${process.pid}`),
      now: Date.now,
    }),
  );
  // One at a time: a thread is in one namespace, and two that overlap would leave it in the wrong one.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <Result>(action: () => Result | PromiseLike<Result>): Promise<Result> => {
    const done = last.then(() => at.insideWhile(async () => await action()));
    last = done.catch(() => undefined);
    return done;
  };
  return {
    collectors: backend.collectors.map(({ name, collect }) => ({
      name,
      collect: (signal) => inTurn(() => collect(signal)),
    })),
    drain: () => at.inside(() => backend.drain?.() ?? {}),
    [Symbol.asyncDispose]: () => inTurn(() => backend[Symbol.asyncDispose]()),
  };
}

describe.skipIf(!mayMakeNamespaces)("on Linux", () => {
  const pair = mayMakeNamespaces ? openPair() : undefined;
  afterAll(() => pair?.lab[Symbol.dispose]());
  if (pair === undefined) return;
  const { host } = pair;
  backendContract({
    name: "linux",
    open: () => openInside(host),
    traffic: async () => {
      for (const address of [outsideV4, outsideV6]) host.run("ping", "-q", "-f", "-c", "20", address);
      using closed = openUdp(host, { address: hostV4, port: 5000 });
      for (const port of [53, 9999]) closed.send({ address: outsideV4, port }, zeros(40));
    },
  });
});
