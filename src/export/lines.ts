// Reads a text file line by line, whatever its size.

import { closeSync, openSync, readSync } from "node:fs";

/** Lines that follow each other; `first` is the number of the first one, from 1. */
export type Lines = { readonly lines: readonly string[]; readonly first: number };

const pieceBytes = 1024 * 1024;
/** The head of an export with all the filters that one can have takes less. */
const lineCharsMax = 256 * 1024;

function decoded(decoder: TextDecoder, piece: Uint8Array, line: number): string {
  try {
    return decoder.decode(piece, { stream: true });
  } catch (error) {
    throw new Error(`line ${line} or one soon after it is no UTF-8`, { cause: error });
  }
}

/** Throws when the last line does not end: then the file was cut off. */
export function* readLines(path: string): Generator<Lines> {
  using undo = new DisposableStack();
  const file = undo.adopt(openSync(path, "r"), closeSync);
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const piece = Buffer.alloc(pieceBytes);
  let first = 1;
  let rest = "";
  for (;;) {
    const bytes = readSync(file, piece, 0, pieceBytes, null);
    if (bytes === 0) break;
    const lines = (rest + decoded(decoder, piece.subarray(0, bytes), first)).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > lineCharsMax)
      throw new Error(`line ${first + lines.length} has more than ${lineCharsMax} characters`);
    yield { lines, first };
    first += lines.length;
  }
  if (rest !== "") throw new Error(`line ${first} does not end: the file was cut off`);
}
