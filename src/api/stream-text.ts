// How a stream of flows is written: as server-sent events, or as lines of JSON.

import type { StoredFlow } from "../store/rows.ts";

/** What the ledger counted as thrown away, and what retention took before the reader came to it. */
export type LostNotice = { readonly lost: Readonly<Record<string, number>>; readonly passed: number };

/** Why a stream ends from our side, and how many rows after its place the reader did not get. */
export type CutNotice = { readonly reason: "slow" | "replaced"; readonly rowsUnsent: number };

export type StreamText = {
  readonly contentType: string;
  /** At once, so that the client has the head of the answer. */
  readonly start: string;
  flow(flow: StoredFlow, cursor: string): string;
  lost(notice: LostNotice, cursor: string): string;
  cut(notice: CutNotice): string;
  /** While there is nothing else; moves the place of the client on as well. */
  heartbeat(cursor: string): string;
};

/** https://html.spec.whatwg.org/multipage/server-sent-events.html; JSON has no line feed in it. */
const sse: StreamText = {
  contentType: "text/event-stream",
  start: "retry: 2000\n\n",
  flow: (flow, cursor) => `event: flow\nid: ${cursor}\ndata: ${JSON.stringify(flow)}\n\n`,
  lost: (notice, cursor) => `event: lost\nid: ${cursor}\ndata: ${JSON.stringify(notice)}\n\n`,
  cut: (notice) => `event: cut\ndata: ${JSON.stringify(notice)}\n\n`,
  heartbeat: (cursor) => `: heartbeat\nid: ${cursor}\n\n`,
};

/** A line with `seq` is a flow, one without a notice. */
const ndjson: StreamText = {
  contentType: "application/x-ndjson",
  start: "\n",
  flow: (flow, cursor) => `${JSON.stringify({ ...flow, cursor })}\n`,
  lost: (notice, cursor) => `${JSON.stringify({ ...notice, cursor })}\n`,
  cut: (notice) => `${JSON.stringify({ cut: notice })}\n`,
  heartbeat: (cursor) => `${JSON.stringify({ cursor })}\n`,
};

export const streamTexts = { sse, ndjson } as const;
