// Messages to the service manager: what is sent, where to, and only when someone listens.

import { describe, expect, test } from "bun:test";
import { createNotifier, unixAddress, watchdogMsOf } from "../src/sd-notify.ts";

function notifier(env: Record<string, string>, extra: { monotonicUs?: () => number } = {}) {
  const sent: string[] = [];
  const addresses: Uint8Array[] = [];
  const failures: unknown[] = [];
  const notify = createNotifier({
    env,
    pid: 42,
    send: (message, address) => {
      sent.push(Buffer.from(message).toString());
      addresses.push(address);
    },
    failed: (error) => failures.push(error),
    ...extra,
  });
  return { notify, sent, addresses, failures };
}

describe("the address", () => {
  test("of a path ends with a zero byte", () => {
    const address = unixAddress("/run/systemd/notify");
    expect([...address.subarray(0, 2)]).toEqual([1, 0]);
    expect(Buffer.from(address.subarray(2)).toString()).toBe("/run/systemd/notify\0");
  });
  test("of an abstract name begins with one, and ends where it ends", () => {
    expect(Buffer.from(unixAddress("@/org/x").subarray(2)).toString()).toBe("\0/org/x");
  });
  test("takes 107 bytes of path or abstract name and no more", () => {
    expect(unixAddress(`/${"x".repeat(106)}`)).toHaveLength(110);
    expect(unixAddress(`@${"x".repeat(107)}`)).toHaveLength(110);
    expect(() => unixAddress(`/${"x".repeat(107)}`)).toThrow("108 bytes");
    expect(() => unixAddress(`@${"x".repeat(108)}`)).toThrow("108 bytes");
    expect(() => unixAddress("vsock:2:1")).toThrow("neither a path");
  });
});

test("each message is one datagram to the address of NOTIFY_SOCKET", () => {
  const { notify, sent, addresses } = notifier(
    { NOTIFY_SOCKET: "@s", WATCHDOG_USEC: "30000000" },
    { monotonicUs: () => 1234.9 },
  );
  notify.ready("3 interfaces\nREADY=0");
  notify.reloading();
  notify.status("ok");
  notify.watchdog();
  notify.stopping();
  expect(sent).toEqual([
    "READY=1\nSTATUS=3 interfaces READY=0",
    "RELOADING=1\nMONOTONIC_USEC=1234",
    "STATUS=ok",
    "WATCHDOG=1",
    "STOPPING=1",
  ]);
  expect(addresses).toEqual(sent.map(() => unixAddress("@s")));
});

test("without a service manager nothing is sent, without a watchdog no watchdog", () => {
  const silent = notifier({ WATCHDOG_USEC: "1000000" });
  silent.notify.ready();
  silent.notify.watchdog();
  expect([silent.sent, silent.notify.watchdogMs]).toEqual([[], undefined]);
  const unwatched = notifier({ NOTIFY_SOCKET: "@s" });
  unwatched.notify.watchdog();
  unwatched.notify.ready();
  expect(unwatched.sent).toEqual(["READY=1"]);
});

test("a message that cannot be sent is reported and takes nothing down", () => {
  const failures: unknown[] = [];
  const notify = createNotifier({
    env: { NOTIFY_SOCKET: "@s" },
    pid: 1,
    send: () => {
      throw new Error("sendto: ENOBUFS");
    },
    failed: (error) => failures.push(error),
  });
  notify.ready();
  expect(failures).toEqual([new Error("sendto: ENOBUFS")]);
  const wrong = notifier({ NOTIFY_SOCKET: "nonsense" });
  wrong.notify.ready();
  expect([wrong.sent.length, wrong.failures.length]).toEqual([0, 1]);
});

test.each([
  [{ WATCHDOG_USEC: "30000000" }, 30_000],
  [{ WATCHDOG_USEC: "1500", WATCHDOG_PID: "42" }, 1.5],
  [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "43" }, undefined],
  [{ WATCHDOG_USEC: "0" }, undefined],
  [{ WATCHDOG_USEC: "-5" }, undefined],
  [{ WATCHDOG_USEC: "abc" }, undefined],
  [{}, undefined],
] as const)("%j is a watchdog of %p ms", (env, ms) => {
  expect(watchdogMsOf(env, 42)).toBe(ms);
});

test.skipIf(process.platform !== "linux")(
  "the kernel takes the address and delivers the message",
  async () => {
    const { bindSocket, openSocket, receiveBytes, sendBytesTo } = await import("../bpf/libc.ts");
    const AF_UNIX = 1;
    const SOCK_DGRAM = 2;
    const name = `@fovea-test-${crypto.randomUUID()}`;
    using manager = openSocket(AF_UNIX, SOCK_DGRAM, 0);
    bindSocket(manager.fd, unixAddress(name));
    using sender = openSocket(AF_UNIX, SOCK_DGRAM, 0);
    const notify = createNotifier({
      env: { NOTIFY_SOCKET: name },
      pid: process.pid,
      send: (message, address) => sendBytesTo(sender.fd, message, address),
      failed: (error) => {
        throw error;
      },
    });
    notify.ready("up");
    const received = new Uint8Array(256);
    const length = receiveBytes(manager.fd, received, true) ?? 0;
    expect(Buffer.from(received.subarray(0, length)).toString()).toBe("READY=1\nSTATUS=up");
  },
);
