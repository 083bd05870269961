// A terminal as a whole screen: drawn over without flicker, and left as it was, however the process ends.

import { writeSync } from "node:fs";

export type Size = { readonly columns: number; readonly rows: number };

export type Screen = Disposable & {
  /** Shows these lines, each of which fits the width; what does not fit the height is left out. */
  draw(lines: readonly string[]): void;
};

/** A terminal that is one, both to be seen and to be drawn on. */
export type Tty = {
  size(): Size;
  /** Calls when the size has changed, until it is disposed of. */
  resized(listener: () => void): Disposable;
  /** Takes the whole screen; disposing gives back what was there. */
  open(): Screen;
};

export type TtyStream = {
  readonly fd: number;
  readonly columns?: number;
  readonly rows?: number;
  on(event: "resize", listener: () => void): unknown;
  off(event: "resize", listener: () => void): unknown;
};

// https://invisible-island.net/xterm/ctlseqs/ctlseqs.html: the alternate screen, and no cursor.
const enter = "\u001b[?1049h\u001b[?25l";
const leave = "\u001b[?25h\u001b[?1049l";
// Terminals that know it show all that is between the two at once; others pass over it.
const beginUpdate = "\u001b[?2026h";
const endUpdate = "\u001b[?2026l";
const home = "\u001b[H";
const clearLine = "\u001b[K";
const clearBelow = "\u001b[J";

/** Each line clears what it does not write over, so that nothing is blank between two pictures. */
export const picture = (lines: readonly string[], { rows }: Size): string =>
  `${beginUpdate}${home}${lines
    .slice(0, rows)
    .map((line) => line + clearLine)
    .join("\r\n")}${clearBelow}${endUpdate}`;

/** Writes at once: what was not written when the process ends would leave the terminal without a cursor. */
const writeAll = (fd: number, text: string): void => {
  try {
    writeSync(fd, text);
  } catch {
    // A terminal that was closed takes nothing, and needs nothing; one that is stopped gets the next picture.
  }
};

export function ttyOf(stream: TtyStream, write: (fd: number, text: string) => void = writeAll): Tty {
  const size = (): Size => ({ columns: stream.columns || 80, rows: stream.rows || 24 });
  return {
    size,
    resized: (listener) => {
      stream.on("resize", listener);
      return { [Symbol.dispose]: () => void stream.off("resize", listener) };
    },
    open: () => {
      let open = true;
      const close = () => {
        if (open) write(stream.fd, leave);
        open = false;
      };
      process.on("exit", close); // Ended in some other way: by a second signal, by a mistake of ours.
      write(stream.fd, enter);
      return {
        draw: (lines) => {
          if (open) write(stream.fd, picture(lines, size()));
        },
        [Symbol.dispose]: () => {
          process.off("exit", close);
          close();
        },
      };
    },
  };
}
