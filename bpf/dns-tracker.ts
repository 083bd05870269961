// Counts DNS messages once however many hooks they pass, and pairs each response with its query.

import type { DnsAnswer, DnsTotals } from "../src/snapshot.ts";
import type { DnsMessage } from "./dns-message.ts";
import { ipv4Text, ipv6Text } from "./proc/address.ts";

/** One sight of a message. `place` tells interface and hook apart; `clientPort` is the port that is not 53. */
export type DnsSight = {
  readonly message: DnsMessage;
  readonly clientPort: number;
  readonly place: number;
  readonly timeNs: number;
};

/** Upper bounds in seconds, from a cache on the node to a resolver's time-out. */
const BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/** Longer than the time that a resolver waits before it asks again. */
const ANSWER_TIMEOUT_NS = 10e9;

type Seen = { readonly place: number; readonly timeNs: number; answered: boolean };

const addressText = (bytes: Uint8Array): string => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return bytes.length === 4 ? ipv4Text(view, 0) : ipv6Text(view, 0);
};

function increment(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function createLatency() {
  const counts = BOUNDS.map(() => 0);
  let sum = 0;
  let count = 0;
  return {
    observe(seconds: number): void {
      sum += seconds;
      count++;
      BOUNDS.forEach((bound, i) => {
        if (seconds <= bound) counts[i] = (counts[i] ?? 0) + 1;
      });
    },
    totals: (): DnsTotals["latency"] => ({ bounds: BOUNDS, counts: [...counts], sum, count }),
  };
}

/** What answers said, until it is handed over; what comes when `max` wait is left out. */
function createAnswers(max: number) {
  let answers: DnsAnswer[] = [];
  return {
    keep(message: DnsMessage): void {
      for (const { address, ttlSeconds } of message.answers) {
        if (answers.length >= max) return;
        answers.push({ name: message.name, address: addressText(address), ttlSeconds });
      }
    },
    take(): readonly DnsAnswer[] {
      const taken = answers;
      answers = [];
      return taken;
    },
  };
}

/**
 * The address of neither end is part of a message's name here: it changes on the way when the message is translated,
 * which client port, id and question do not. `pendingMax` bounds queries and responses that are remembered.
 */
export function createDnsTracker(options: { pendingMax: number; answersMax: number }) {
  const queries = new Map<string, number>();
  const responses = new Map<string, number>();
  const seenQueries = new Map<string, Seen>();
  const seenResponses = new Map<string, Seen>();
  const latency = createLatency();
  const answers = createAnswers(options.answersMax);
  let unanswered = 0;
  let unsolicited = 0;

  function forget(seen: Map<string, Seen>, beforeNs: number): void {
    for (const [key, entry] of seen) {
      if (entry.timeNs >= beforeNs && seen.size <= options.pendingMax) return;
      seen.delete(key);
      if (seen === seenQueries && !entry.answered) unanswered++;
    }
  }

  /** False when this is another hook's sight of a message that was counted. */
  function isNew(seen: Map<string, Seen>, key: string, { place, timeNs }: DnsSight): boolean {
    const known = seen.get(key);
    if (known !== undefined && known.place !== place) return false;
    if (known !== undefined && seen === seenQueries && !known.answered) unanswered++;
    seen.delete(key); // To stand at the end again: the map is in order of time.
    seen.set(key, { place, timeNs, answered: false });
    forget(seen, timeNs - ANSWER_TIMEOUT_NS);
    return true;
  }

  return {
    see(sight: DnsSight): void {
      const { message, clientPort } = sight;
      const key = `${clientPort} ${message.id} ${message.type} ${message.name}`;
      if (!message.response) {
        if (isNew(seenQueries, key, sight)) increment(queries, message.type);
        return;
      }
      if (!isNew(seenResponses, key, sight)) return;
      increment(responses, `${message.type} ${message.code}`);
      const query = seenQueries.get(key);
      if (query === undefined || query.answered || query.timeNs > sight.timeNs) {
        unsolicited++;
        return; // Anybody can send one: a name in it would be whatever the sender likes.
      }
      query.answered = true;
      answers.keep(message);
      latency.observe((sight.timeNs - query.timeNs) / 1e9);
    },
    totals(nowNs: number, lost: number): DnsTotals {
      forget(seenQueries, nowNs - ANSWER_TIMEOUT_NS);
      forget(seenResponses, nowNs - ANSWER_TIMEOUT_NS);
      return {
        queries: [...queries].map(([type, count]) => ({ type, count })),
        responses: [...responses].map(([key, count]) => {
          const [type = "", code = ""] = key.split(" ");
          return { type, code, count };
        }),
        latency: latency.totals(),
        unanswered,
        unsolicited,
        lost,
      };
    },
    /** Answers since the last call. */
    takeAnswers: answers.take,
  };
}
