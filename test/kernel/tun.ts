// TUN devices: two namespaces joined by a process that carries their packets over, and the device of a guest.

import { closeSync, openSync, writeSync } from "node:fs";
import { ioctl } from "../../bpf/libc.ts";
import type { TestNamespace } from "./proc-namespace.ts";

export type TunEnd = {
  readonly at: TestNamespace;
  readonly name: string;
  readonly addresses: readonly string[];
};

/** The devices live as long as the relay. */
export async function joinByTun(options: {
  readonly program: string;
  readonly ends: readonly [TunEnd, TunEnd];
  readonly delayMs: number;
}): Promise<AsyncDisposable> {
  const { program, ends, delayMs } = options;
  const words = ends.flatMap(({ at, name }) => [at.name, name]);
  const relay = Bun.spawn([program, ...words, String(delayMs)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { done } = await relay.stdout.getReader().read();
  if (done) throw new Error("the relay between TUN devices ended");
  for (const { at, name, addresses } of ends) {
    for (const address of addresses) at.ip("addr", "add", address, "dev", name);
    at.ip("link", "set", name, "up");
  }
  return {
    async [Symbol.asyncDispose]() {
      relay.stdin.end();
      await relay.exited;
    },
  };
}

export type Tap = Disposable & {
  /** Comes in by the device: a frame with the header of a guest in front. */
  send(frame: Uint8Array): void;
};

/** A TAP device as a virtual machine has it, up. */
export function openTap(at: TestNamespace, name: string): Tap {
  const TUNSETIFF = 0x400454ca;
  const [IFF_TAP, IFF_NO_PI, IFF_VNET_HDR] = [0x2, 0x1000, 0x4000];
  const request = Buffer.alloc(40); // struct ifreq
  request.write(name);
  request.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, 16);
  const fd = at.inside(() => openSync("/dev/net/tun", "r+"));
  ioctl(fd, TUNSETIFF, request);
  at.ip("link", "set", name, "up");
  return {
    send: (frame) => void writeSync(fd, frame),
    [Symbol.dispose]: () => closeSync(fd),
  };
}
