// The log of a service, which has no terminal: lines in a file that is rotated by size.

import { type LineFile, openLineFile } from "../src/flow-log-file.ts";
import { createRotation } from "../src/flow-log-rotation.ts";
import { errorText } from "../src/log.ts";

export type ServiceLog = Disposable & {
  /** Throws when the line could not be written, or not whole. */
  write(line: string): void;
};

/** `filesMax` rotated files are kept beside the one that is written. */
export function openServiceLog(options: {
  readonly file: string;
  readonly bytesMax: number;
  readonly filesMax: number;
  readonly now: () => number;
}): ServiceLog {
  const { file, bytesMax, filesMax, now } = options;
  let open: LineFile | undefined;
  let complaint = "";
  const rotation = createRotation({
    ...{ file, filesMax, now },
    ageMaxMs: Number.POSITIVE_INFINITY,
    compress: false,
    failed: (error) => {
      const fields = { message: "old log files cannot be removed", error: errorText(error) };
      complaint = `${JSON.stringify({ time: new Date(now()).toISOString(), level: "warn", ...fields })}\n`;
    },
  });
  const close = () => {
    open?.close();
    open = undefined;
  };
  const fileFor = (bytes: number): LineFile => {
    if (open !== undefined && !open.stillThere()) close();
    open ??= openLineFile({ path: file, now });
    if (open.bytes === 0 || open.bytes + bytes <= bytesMax) return open;
    close();
    rotation.rotate();
    open = openLineFile({ path: file, now });
    return open;
  };
  return {
    write: (line) => {
      const bytes = Buffer.from(`${complaint}${line}`);
      complaint = "";
      const { error } = fileFor(bytes.length).append(bytes);
      if (error !== undefined) throw error;
    },
    [Symbol.dispose]: close,
  };
}
