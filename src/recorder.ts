// Writes down what collectors give, tick by tick, so that it can be played on any machine: the other half of replay.ts.

import { closeSync, openSync, writeSync } from "node:fs";
import { errorText, type Log } from "./log.ts";
import { recordingBytesMax, recordingLineMax, recordTick } from "./replay.ts";
import type { Backend, Collector, Snapshot } from "./snapshot.ts";

export type Recorder = Disposable & {
  /** The same backend, whose snapshots are written down as well. */
  record(backend: Backend): Backend;
};

/** One object a tick; what cannot be written ends the recording, and nothing else. */
function openLines(file: string, bytesMax: number, log: Log) {
  let fd: number | undefined = openSync(file, "wx", 0o600); // It holds addresses, and replaces no other.
  let bytes = 0;
  const end = (): void => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
  };
  return {
    write(line: string): void {
      if (fd === undefined) return;
      const data = Buffer.from(line);
      if (bytes + data.length > bytesMax || line.length > recordingLineMax) {
        log.warn("the recording is full and ends here; all else goes on", { file, bytes });
        end();
        return;
      }
      try {
        writeSync(fd, data);
        bytes += data.length;
      } catch (error) {
        log.warn("the recording cannot be written and ends here; all else goes on", {
          file,
          error: errorText(error),
        });
        end();
      }
    },
    end,
  };
}

/** `now` is epoch milliseconds. Throws where the file is there already, or cannot be made. */
export function openRecorder(options: {
  readonly file: string;
  readonly now: () => number;
  readonly log: Log;
  readonly bytesMax?: number;
}): Recorder {
  const { file, now, log, bytesMax = recordingBytesMax } = options;
  const lines = openLines(file, bytesMax, log);
  const startedAt = now();
  let snapshots: Record<string, Snapshot> = {};
  let at = startedAt;
  let giver: string | undefined; // The collector of flows.
  const flush = (): void => {
    if (Object.keys(snapshots).length > 0) lines.write(recordTick({ startedAt, at, snapshots }));
    snapshots = {};
  };
  const keep = (name: string, snapshot: Snapshot): Snapshot => {
    snapshots[name] = snapshot;
    at = now();
    if (snapshot.flows !== undefined) giver ??= name;
    return snapshot;
  };
  /** What is still live at the end belongs to the last tick: a recording has no other place for it. */
  const keepLast = (last: Snapshot): Snapshot => {
    const before = giver === undefined ? undefined : snapshots[giver];
    if (giver !== undefined && before !== undefined)
      snapshots[giver] = { ...before, ...last, flows: [...(before.flows ?? []), ...(last.flows ?? [])] };
    return last;
  };
  const wrap = ({ name, collect }: Collector, first: boolean): Collector => ({
    name,
    collect: (signal) => {
      if (first) flush(); // The loop calls the collectors in their order, all of them once a tick.
      const given = collect(signal);
      return given instanceof Promise ? given.then((snapshot) => keep(name, snapshot)) : keep(name, given);
    },
  });
  return {
    record: ({ drain, ...backend }) => ({
      ...backend,
      ...(drain === undefined ? {} : { drain: () => keepLast(drain()) }),
      collectors: backend.collectors.map((collector, index) => wrap(collector, index === 0)),
      [Symbol.asyncDispose]: () => backend[Symbol.asyncDispose](),
    }),
    [Symbol.dispose]() {
      flush();
      lines.end();
    },
  };
}
