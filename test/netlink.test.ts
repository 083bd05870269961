// Netlink messages, attributes and dumps, on hand-made packets.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { LibcError } from "../bpf/libc.ts";
import {
  attributeText,
  attributeU32,
  type DumpTransport,
  ENOBUFS,
  ENOENT,
  eachAttribute,
  eachMessage,
  runDumpOver,
} from "../bpf/netlink.ts";

const NLM_F_MULTI = 2;
const NLM_F_DUMP_INTR = 0x10;
const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;
const payload = 100;

type Part = {
  readonly type: number;
  readonly flags?: number;
  readonly sequence?: number;
  readonly body?: Uint8Array;
};

function packet(...parts: readonly Part[]): Uint8Array {
  const messages = parts.map(({ type, flags = NLM_F_MULTI, sequence = 1, body = new Uint8Array(4) }) => {
    const bytes = new Uint8Array((16 + body.length + 3) & ~3);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 16 + body.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags, true);
    view.setUint32(8, sequence, true);
    bytes.set(body, 16);
    return bytes;
  });
  return new Uint8Array(Buffer.concat(messages));
}

const code = (errno: number): Uint8Array => new Uint8Array(new Int32Array([-errno]).buffer);
const value = (byte: number): Uint8Array => new Uint8Array([byte, 0, 0, 0]);

/** A kernel that answers each request with the next list of packets; sequence numbers are as asked. */
function kernel(
  ...answers: readonly (readonly Uint8Array[])[]
): DumpTransport & { readonly sent: Uint8Array[] } {
  const sent: Uint8Array[] = [];
  let waiting: Uint8Array[] = [];
  return {
    sent,
    send(message) {
      waiting = [...(answers[sent.length] ?? [])];
      sent.push(message);
    },
    receive(into) {
      const next = waiting.shift();
      if (next !== undefined) into.set(next);
      return next?.length;
    },
  };
}

function dumpFrom(transport: DumpTransport): { seen: number[]; interrupted: boolean } {
  let seen: number[] = [];
  const { interrupted } = runDumpOver(transport, {
    what: "list of things",
    type: 18,
    body: new Uint8Array([7, 7, 7, 7, 7]),
    begin: () => {
      seen = [];
    },
    each: ({ view, start }) => void seen.push(view.getUint8(start)),
  });
  return { seen, interrupted };
}

describe("messages", () => {
  test("are walked with their padding", () => {
    const lengths: number[] = [];
    const bytes = packet(
      { type: payload, body: new Uint8Array(5) },
      { type: payload, body: new Uint8Array(8) },
    );
    eachMessage(bytes, ({ start, end }) => void lengths.push(end - start));
    expect(lengths).toEqual([5, 8]);
  });

  test("longer than their packet are an error", () => {
    const bytes = packet({ type: payload, body: new Uint8Array(8) });
    expect(() => eachMessage(bytes.subarray(0, 20), () => undefined)).toThrow(
      "netlink message of 24 bytes, with 20 bytes left in its packet",
    );
    bytes[0] = 3;
    expect(() => eachMessage(bytes, () => undefined)).toThrow("netlink message of 3 bytes");
  });
});

describe("attributes", () => {
  test("written are read back", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(0x3fff), fc.nat(2 ** 31))), (pairs) => {
        const bytes = Buffer.concat(pairs.map(([type, number]) => attributeU32(type, number)));
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        const read: [number, number][] = [];
        eachAttribute(
          { view, start: 0, end: bytes.length },
          (type, start) => void read.push([type, view.getUint32(start, true)]),
        );
        expect(read).toEqual(pairs);
      }),
    );
  });

  test("lose the flag bits of their type, and text ends at its zero", () => {
    const view = new DataView(new Uint8Array([8, 0, 3, 0x80, 0x6c, 0x6f, 0, 0x21]).buffer);
    const read: unknown[] = [];
    eachAttribute(
      { view, start: 0, end: 8 },
      (type, start, end) => void read.push([type, attributeText(view, start, end)]),
    );
    expect(read).toEqual([[3, "lo"]]);
  });

  test("longer than their message are an error", () => {
    const view = new DataView(attributeU32(1, 1).buffer);
    expect(() => eachAttribute({ view, start: 0, end: 7 }, () => undefined)).toThrow(
      "netlink attribute of 8 bytes, with 7 bytes left in its message",
    );
    view.setUint16(0, 0, true);
    expect(() => eachAttribute({ view, start: 0, end: 8 }, () => undefined)).toThrow("attribute of 0 bytes");
  });
});

describe("dumps", () => {
  const done: Part = { type: NLMSG_DONE };
  const item = (byte: number, more: Partial<Part> = {}): Part => ({
    type: payload,
    body: value(byte),
    ...more,
  });

  test("hand over all packets until the end, and skip what is not theirs", () => {
    const transport = kernel([
      packet(item(1), { type: NLMSG_NOOP }),
      packet(item(9, { sequence: 77 }), item(2)),
      packet(done),
    ]);
    expect(dumpFrom(transport)).toEqual({ seen: [1, 2], interrupted: false });
    const view = new DataView(transport.sent[0]!.buffer);
    expect([view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true)]).toEqual([
      21, 18, 0x301,
    ]);
    expect(transport.sent[0]).toHaveLength(24);
  });

  test("start again when the list changed, on any message or at the end", () => {
    const again = (sequence: number, byte: number) => [
      packet(item(byte, { sequence })),
      packet({ type: NLMSG_DONE, sequence }),
    ];
    const interruptedAtEnd = [packet(item(1)), packet({ ...done, flags: NLM_F_DUMP_INTR })];
    expect(dumpFrom(kernel(interruptedAtEnd, again(2, 5)))).toEqual({ seen: [5], interrupted: false });
    const interruptedOnItem = [packet(item(1, { flags: NLM_F_DUMP_INTR })), packet(done)];
    expect(dumpFrom(kernel(interruptedOnItem, again(2, 6)))).toEqual({ seen: [6], interrupted: false });
  });

  test("give up after four times, keep the last list and say so", () => {
    const answers = [1, 2, 3, 4, 5].map((sequence) => [
      packet(item(sequence, { sequence }), { type: NLMSG_DONE, sequence, flags: NLM_F_DUMP_INTR }),
    ]);
    const transport = kernel(...answers);
    expect(dumpFrom(transport)).toEqual({ seen: [4], interrupted: true });
    expect(transport.sent).toHaveLength(4);
  });

  test.each([
    ["an error message", [packet({ type: NLMSG_ERROR, body: code(ENOENT) })], ENOENT],
    ["an error at the end", [packet(item(1)), packet({ type: NLMSG_DONE, body: code(95) })], 95],
    ["an overrun", [packet({ type: NLMSG_OVERRUN })], ENOBUFS],
  ])("fail with errno on %s", (_, answer, errno) => {
    try {
      dumpFrom(kernel(answer));
    } catch (error) {
      expect(error).toBeInstanceOf(LibcError);
      expect(error).toMatchObject({ errno, message: expect.stringContaining("list of things") });
      return;
    }
    expect.unreachable();
  });

  test("take an acknowledgement for what it is", () => {
    expect(dumpFrom(kernel([packet({ type: NLMSG_ERROR, body: code(0) }, item(3), done)])).seen).toEqual([3]);
  });

  test("that have no end are an error, not a wait", () => {
    expect(() => dumpFrom(kernel([packet(item(1))]))).toThrow(
      "list of things: the kernel's answer has no end",
    );
  });
});
