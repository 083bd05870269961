// The flow log: a line of Hubble's JSON a row in a file on the node, rotated by size and age. It never stops its caller.

import { dirname } from "node:path";
import type { FlowRecord } from "./flow.ts";
import { type LineFile, openLineFile } from "./flow-log-file.ts";
import { createRotation, type Rotation, type RotationFacts } from "./flow-log-rotation.ts";
import { type HubbleOptions, hubbleLine, hubbleLineBytesMax, lostEventsLine } from "./hubble.ts";
import { type LossReason, lossReason } from "./store/failure.ts";
import { checkRow } from "./store/rows.ts";
import type { ThrottleSummary } from "./throttle-summary.ts";

export type FlowLogOptions = HubbleOptions & {
  readonly file: string;
  /** The file is rotated before it grows past this; one line that is longer stands in it alone. */
  readonly bytesMax: number;
  /** Rotated files that are kept beside it. */
  readonly filesMax: number;
  /** For how long a rotated file is kept. A part of this, by `filesMax`, is how old the first line of the file may be. */
  readonly ageMaxMs: number;
  readonly compress: boolean;
  readonly now: () => number;
  /** The first of a row of failures. While it goes on, lines are lost, or files stay uncompressed. */
  readonly failed: (error: unknown) => void;
  /** Lines can be written again; so many were lost since. */
  readonly recovered: (linesLost: number) => void;
};

/** `invalid`: what no store and no reader takes either. The others as the store has them. */
export type LineLoss = LossReason | "invalid";

export type FlowLogFacts = RotationFacts & {
  /** Lines and bytes that were written since the start; with those that were lost, all that were offered. */
  readonly lines: number;
  readonly bytes: number;
  readonly lost: Readonly<Record<LineLoss, number>>;
  readonly failing: boolean;
};

export type FlowLog = AsyncDisposable & {
  /** Writes a line a record and a summary, in that order. Never throws; to be called every tick, for age too. */
  write(records: readonly FlowRecord[], summaries: readonly ThrottleSummary[]): void;
  facts(): FlowLogFacts;
};

/** Written in one go. */
const chunkBytes = 256 * 1024;
const lineEnd = 10;

export function createFlowLog(options: FlowLogOptions): FlowLog {
  const { file } = options;
  const rotation = createRotation(options);
  const writer = createWriter({ ...options, rotation });
  const lost: Record<LineLoss, number> = { disk_full: 0, read_only: 0, busy: 0, error: 0, invalid: 0 };
  let lostSince: number | undefined;

  const lose = (linesLost: number, error: unknown): void => {
    lost[lossReason(error, dirname(file))] += linesLost;
    if (lostSince === undefined)
      options.failed(new Error(`Could not write the flow log ${file}: its lines are lost`, { cause: error }));
    lostSince = (lostSince ?? 0) + linesLost;
  };

  const put = (line: string | undefined): void => {
    if (line === undefined) lost.invalid++;
    else writer.put(line);
  };

  return {
    write(records, summaries) {
      const offered = records.length + summaries.length;
      const before = { lines: writer.counts().lines, invalid: lost.invalid };
      const written = (): number => writer.counts().lines - before.lines;
      try {
        writer.ready();
        for (const record of records) put(flowLine(record, options));
        for (const summary of summaries) put(summaryLine(summary, options));
        writer.flush();
      } catch (error) {
        writer.discard();
        lose(offered - written() - (lost.invalid - before.invalid), error);
        return;
      }
      // Only what was written shows that writing works.
      if (lostSince === undefined || written() === 0) return;
      options.recovered(lostSince);
      lostSince = undefined;
    },
    facts: () => ({
      ...rotation.facts(),
      ...writer.counts(),
      lost: { ...lost },
      failing: lostSince !== undefined,
    }),
    async [Symbol.asyncDispose]() {
      writer.close();
      await rotation[Symbol.asyncDispose]();
    },
  };
}

/** Lines through memory into the file that the path leads to. Each of these may throw but `discard`. */
function createWriter(options: {
  readonly file: string;
  readonly bytesMax: number;
  readonly filesMax: number;
  readonly ageMaxMs: number;
  readonly now: () => number;
  readonly rotation: Rotation;
}) {
  const { file, bytesMax, filesMax, ageMaxMs, now, rotation } = options;
  const fileAgeMs = ageMaxMs / Math.max(1, filesMax);
  const chunk = createChunk();
  const counts = { lines: 0, bytes: 0 };
  let open: LineFile | undefined;

  const opened = (): LineFile => {
    open ??= openLineFile({ path: file, now });
    return open;
  };

  const close = (): void => {
    const closing = open;
    open = undefined;
    closing?.close();
  };

  const rotate = (): void => {
    close();
    rotation.rotate();
  };

  const flush = (): void => {
    if (chunk.bytes === 0) return;
    const { bytes, error } = opened().append(chunk.content());
    counts.bytes += bytes;
    counts.lines += chunk.linesIn(bytes);
    chunk.clear();
    if (error !== undefined) throw error;
  };

  return {
    /** Finds the file as it is now, which another program may have moved, and rotates it when it is old enough. */
    ready: (): void => {
      if (open?.stillThere() === false) close();
      const { firstAt } = opened();
      if (firstAt !== undefined && Math.max(0, now() - firstAt) >= fileAgeMs) rotate();
      rotation.tend();
    },
    put: (line: string): void => {
      const before = opened().bytes + chunk.bytes;
      const added = chunk.add(line);
      if (before > 0 && before + added > bytesMax) {
        chunk.takeBack(added);
        flush();
        rotate();
        chunk.add(line);
      }
      if (chunk.bytes >= chunkBytes) flush();
    },
    flush,
    discard: chunk.clear,
    close,
    counts: (): { readonly lines: number; readonly bytes: number } => ({ ...counts }),
  };
}

/** Undefined for what no line can be made of: it must not cost the others theirs. */
function flowLine(record: FlowRecord, options: HubbleOptions): string | undefined {
  try {
    return typeof checkRow(record) === "string" ? undefined : hubbleLine(record, options);
  } catch {
    return undefined;
  }
}

function summaryLine(summary: ThrottleSummary, options: HubbleOptions): string | undefined {
  try {
    return lostEventsLine(summary, options);
  } catch {
    return undefined;
  }
}

/** Lines on their way into the file, with their ends, in memory that is used again. */
function createChunk() {
  const buffer = Buffer.allocUnsafe(chunkBytes + hubbleLineBytesMax + 1);
  let bytes = 0;
  let lines = 0;
  return {
    get bytes() {
      return bytes;
    },
    content: (): Uint8Array => buffer.subarray(0, bytes),
    /** Returns the bytes that it takes. There is room for a line as long as fewer than `chunkBytes` are held. */
    add: (line: string): number => {
      const added = buffer.write(line, bytes) + 1;
      bytes += added;
      buffer[bytes - 1] = lineEnd;
      lines++;
      return added;
    },
    takeBack: (added: number): void => {
      bytes -= added;
      lines--;
    },
    /** Whole lines in the first so many bytes. */
    linesIn: (first: number): number => {
      if (first === bytes) return lines;
      let count = 0;
      for (const byte of buffer.subarray(0, first)) if (byte === lineEnd) count++;
      return count;
    },
    clear: (): void => {
      bytes = 0;
      lines = 0;
    },
  };
}
