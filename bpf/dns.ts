// The DNS collector: messages that the programs copied out, counted, paired and read for names.

import type { Snapshot } from "../src/snapshot.ts";
import type { KernelClock } from "./clock.ts";
import { dnsEvent } from "./contract.gen.ts";
import { createDnsErrorList } from "./dns-errors.ts";
import { parseDnsMessage } from "./dns-message.ts";
import { createDnsTracker } from "./dns-tracker.ts";
import { openRing } from "./ring.ts";

const DNS_PORT = 53;
const TCP = 6;

const NO_ERROR = "NOERROR";

/** Queries remembered while they wait for a response; answers and errors handed over a tick. */
const PENDING_MAX = 8192;
const ANSWERS_MAX = 4096;
const ERRORS_MAX = 4096;

export type Dns = Disposable & { collect(): Snapshot };

export function createDns(options: {
  ringFd: number;
  ringBytes: number;
  clock: KernelClock;
  lost: () => number;
}): Dns {
  const ring = openRing(options.ringFd, options.ringBytes);
  const tracker = createDnsTracker({ pendingMax: PENDING_MAX, answersMax: ANSWERS_MAX });
  const errors = createDnsErrorList({ max: ERRORS_MAX });

  function readEvent(event: DataView): void {
    const length = event.getUint16(dnsEvent.length, true);
    const payload = new Uint8Array(event.buffer, event.byteOffset + dnsEvent.payload, length);
    const message = parseDnsMessage(payload, event.getUint8(dnsEvent.protocol) === TCP);
    if (message === undefined) return; // Not DNS, or a later segment of a long answer.
    if (message.response && message.code !== NO_ERROR) errors.see(event, message.code);
    const sourcePort = event.getUint16(dnsEvent.sourcePort);
    const destinationPort = event.getUint16(dnsEvent.destinationPort);
    tracker.see({
      message,
      clientPort: sourcePort === DNS_PORT ? destinationPort : sourcePort,
      place: event.getUint32(dnsEvent.ifindex, true) * 2 + (event.getUint8(dnsEvent.hook) & 1),
      timeNs: Number(event.getBigUint64(dnsEvent.timeNs, true)),
    });
  }

  const limits = (): readonly string[] =>
    errors.left() === 0
      ? []
      : [`${errors.left()} DNS errors are on no flow: there were more than ${ERRORS_MAX} in a tick`];

  return {
    collect() {
      ring.read(readEvent);
      return {
        dns: tracker.totals(options.clock.nowNs(), options.lost()),
        dnsAnswers: tracker.takeAnswers(),
        dnsErrors: errors.take(),
        limits: limits(),
      };
    },
    [Symbol.dispose]: () => ring[Symbol.dispose](),
  };
}
