// One client that follows the store: it is given as much as it takes, and let go when it takes too little.

import { setImmediate as nextTurn } from "node:timers/promises";
import { StoreQueryError, StoreUnreadableError } from "../store/failure.ts";
import type { CutNotice, StreamText } from "./stream-text.ts";
import type { Source, Supply } from "./supply.ts";

export type ReaderBounds = {
  /** A client that takes no piece of its stream for so long is cut off. */
  readonly stalledMs: number;
  /** A client that is so many rows further behind than it was at its best is cut off. */
  readonly behindMax: number;
  readonly heartbeatMs: number;
};

export type Reader = {
  readonly stream: ReadableStream<Uint8Array>;
  /** There may be new rows. */
  ticked(): void;
  /** Ends the stream at once. */
  end(): void;
};

type Options = {
  readonly supply: Supply;
  readonly head: Source["head"];
  readonly text: StreamText;
  readonly bounds: ReaderBounds;
  /** A read that failed; the stream goes on when the store can be read again. */
  readonly failed: (error: unknown) => void;
  /** Once, when the stream is over. */
  readonly ended: (cut: CutNotice | undefined) => void;
};

/** Waits for the next tick, or until something must be written so that the connection is not taken for dead. */
function createWaiting(heartbeatMs: number) {
  let ticked = false;
  let wake: (() => void) | undefined;
  let writtenMs = performance.now();
  return {
    ticked: () => {
      ticked = true;
      wake?.();
    },
    written: () => {
      writtenMs = performance.now();
    },
    heartbeatDue: () => performance.now() >= writtenMs + heartbeatMs,
    untilTick: async (): Promise<void> => {
      if (!ticked) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, Math.max(0, writtenMs + heartbeatMs - performance.now()));
        wake = resolve;
        await promise;
        wake = undefined;
        clearTimeout(timer);
      }
      ticked = false;
    },
  };
}

/** Whether a client falls behind: by rows that were there at the tick before, as one tick may bring many at once. */
function createLag({ supply, head, bounds }: Options) {
  let least = Number.POSITIVE_INFINITY;
  let before = head();
  return {
    tooMuch: (): boolean => {
      const overdue = supply.rowsUpTo(before);
      before = head();
      least = Math.min(least, overdue);
      return overdue > least + bounds.behindMax;
    },
  };
}

/** Waits until there is something to write; a store that cannot be read is asked again at the next tick. */
async function nextPiece(
  { supply, text, failed }: Options,
  waiting: ReturnType<typeof createWaiting>,
  over: () => boolean,
): Promise<string> {
  for (;;) {
    let piece: string | undefined;
    try {
      piece = await supply.next();
    } catch (error) {
      if (!(error instanceof StoreUnreadableError)) throw error;
      failed(error);
    }
    if (over() || (piece !== undefined && piece !== "")) return piece ?? "";
    if (waiting.heartbeatDue()) return text.heartbeat(supply.cursor());
    if (piece === undefined || !supply.more) await waiting.untilTick();
    else await nextTurn(); // A store that answers from memory must not hold the thread while it looks.
  }
}

export function createReader(options: Options): Reader {
  const { supply, head, text, bounds, failed, ended } = options;
  const encoder = new TextEncoder();
  const waiting = createWaiting(bounds.heartbeatMs);
  const lag = createLag(options);
  let over = false;
  let stalled: ReturnType<typeof setTimeout> | undefined;
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  const finish = (cut?: CutNotice): void => {
    over = true;
    clearTimeout(stalled);
    waiting.ticked();
    ended(cut);
  };
  const end = (): void => {
    if (over) return;
    finish();
    controller?.close();
  };
  const cutOff = (reason: CutNotice["reason"]): void => {
    if (over) return;
    const cut = { reason, rowsUnsent: supply.rowsUpTo(head()) };
    finish(cut);
    controller?.enqueue(encoder.encode(text.cut(cut)));
    controller?.close();
  };
  const broken = (error: unknown): undefined => {
    if (error instanceof StoreQueryError) cutOff("replaced");
    else failed(error);
    end();
  };
  const watch = (): void => {
    stalled = setTimeout(() => cutOff("slow"), bounds.stalledMs);
  };

  const stream = new ReadableStream<Uint8Array>(
    {
      start: (given) => {
        controller = given;
        watch();
      },
      pull: async (given) => {
        clearTimeout(stalled);
        const piece = await nextPiece(options, waiting, () => over).catch(broken);
        if (over || piece === undefined) return;
        given.enqueue(encoder.encode(piece));
        waiting.written();
        watch();
      },
      cancel: () => {
        if (!over) finish();
      },
    },
    { highWaterMark: 0 },
  );
  return {
    stream,
    ticked: () => {
      if (lag.tooMuch()) cutOff("slow");
      else waiting.ticked();
    },
    end,
  };
}
