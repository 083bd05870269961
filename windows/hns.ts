// The Host Networking Service through HNSCall of vmcompute.dll: a request that may block for as long as the service likes.

import { existsSync } from "node:fs";
import { HnsError } from "./hns-parse.ts";
import {
  addressCell,
  LibraryError,
  openLibrary,
  systemPath,
  takeUtf16,
  utf16,
  WindowsError,
} from "./system.ts";

export type Hns = Disposable & {
  /** The text of the answer. Throws HnsError. */
  get(path: string): string;
};

const signature = { HNSCall: { args: ["ptr", "ptr", "ptr", "ptr"], returns: "i32" } } as const;

function openExports(file: string) {
  try {
    return openLibrary(file, signature);
  } catch (error) {
    if (!(error instanceof LibraryError)) throw error;
    const path = systemPath(file);
    if (existsSync(path)) throw new HnsError(`HNS cannot be asked: ${error.message}`);
    throw new HnsError(
      `The Containers feature, and HNS with it, is not on this machine: there is no ${path}`,
    );
  }
}

/** `file` is vmcompute.dll. Throws HnsError where there is no HNS. It may come later, with the Containers feature. */
export function openHns(file: string): Hns {
  const { symbols, close } = openExports(file);
  const method = utf16("GET");
  const request = utf16(""); // Not NULL, which HNS refuses.
  const answer = addressCell();
  return {
    get(path) {
      answer[0] = 0n;
      const result = symbols.HNSCall(method, utf16(path), request, answer);
      const text = takeUtf16(answer); // Freed whatever the result is.
      if (result < 0) {
        const { message, code } = new WindowsError(`HNS, GET ${path}`, result);
        throw new HnsError(message, code);
      }
      if (text === undefined) throw new HnsError(`HNS, GET ${path}: an answer without a text`);
      return text;
    },
    [Symbol.dispose]: close,
  };
}
