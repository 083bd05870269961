// The streams of flows that are open: their number is bounded, and none holds the appliance up.

import type { FlowFilter } from "../store/filter.ts";
import { createReader, type Reader, type ReaderBounds } from "./reader.ts";
import type { StreamText } from "./stream-text.ts";
import { openSupply, type Source } from "./supply.ts";

export type StreamFacts = {
  readonly open: number;
  readonly max: number;
  /** Since the start: streams that were opened, turned away because `max` were open, cut off as too slow. */
  readonly served: number;
  readonly refused: number;
  readonly cutOff: number;
  /** Rows after the places of those that were cut off. */
  readonly rowsUnsent: number;
};

export type StreamRequest = {
  readonly filter: FlowFilter;
  readonly cursor?: string | undefined;
  readonly text: StreamText;
  /** Aborts when the client goes. */
  readonly signal: AbortSignal;
};

export type Streams = Disposable & {
  /** Undefined when no further one may be open. Throws like the queries of the store. */
  open(request: StreamRequest): Promise<ReadableStream<Uint8Array> | undefined>;
  /** To be called after each append: there may be new rows. */
  ticked(): void;
  facts(): StreamFacts;
};

export type StreamBounds = ReaderBounds & {
  /** Bytes, or a little more, that are made for a client at once. */
  readonly chunkBytes: number;
};

/** 64 KiB in 10 s are a slow mobile link; 100,000 rows are some 40 MB of JSON, or 4 s of the fastest node. */
const boundsDefault: StreamBounds = {
  chunkBytes: 65_536,
  stalledMs: 10_000,
  behindMax: 100_000,
  heartbeatMs: 15_000,
};

/** Disposing ends all streams at once. */
export function createStreams(options: {
  readonly source: Source;
  readonly streamsMax: number;
  /** A stream that cannot read the store. */
  readonly failed: (error: unknown) => void;
  readonly bounds?: Partial<StreamBounds>;
}): Streams {
  const { source, streamsMax, failed } = options;
  const bounds = { ...boundsDefault, ...options.bounds };
  const readers = new Set<Reader>();
  let opening = 0;
  let closed = false;
  const counts = { served: 0, refused: 0, cutOff: 0, rowsUnsent: 0 };

  const openReader = async (request: StreamRequest): Promise<Reader> => {
    const { text, signal } = request;
    const supply = await openSupply({ ...request, source, chunkBytes: bounds.chunkBytes });
    const reader = createReader({
      ...{ supply, head: source.head, text, bounds, failed },
      ended: (cut) => {
        readers.delete(reader);
        signal.removeEventListener("abort", reader.end);
        if (cut === undefined) return;
        counts.cutOff += 1;
        counts.rowsUnsent += cut.rowsUnsent;
      },
    });
    readers.add(reader);
    counts.served += 1;
    signal.addEventListener("abort", reader.end, { once: true });
    if (closed || signal.aborted) reader.end();
    return reader;
  };

  return {
    open: async (request) => {
      if (closed || readers.size + opening >= streamsMax) {
        counts.refused += 1;
        return undefined;
      }
      opening += 1;
      try {
        return (await openReader(request)).stream;
      } finally {
        opening -= 1;
      }
    },
    ticked: () => {
      for (const reader of readers) reader.ticked();
    },
    facts: () => ({ open: readers.size, max: streamsMax, ...counts }),
    [Symbol.dispose]: () => {
      closed = true;
      for (const reader of readers) reader.end();
    },
  };
}
