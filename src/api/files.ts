// What is wrong with the files that the API is opened with, without opening it.

import { TlsFileError } from "../sinks/tls-files.ts";
import { openToken } from "./auth.ts";
import { readTls, tlsFilesOf, tlsOf } from "./tls.ts";

export type ApiFileProblem = {
  /** Of the key within the section `api`. */
  readonly path: readonly string[];
  readonly message: string;
  /** The files of which it speaks. */
  readonly about: readonly string[];
};

type ApiFiles = {
  readonly tokenFile?: string | undefined;
  readonly tls: Parameters<typeof tlsOf>[0];
};

function tokenProblems(tokenFile: string): readonly ApiFileProblem[] {
  try {
    openToken(tokenFile);
    return [];
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return [{ path: ["tokenFile"], message, about: [tokenFile] }];
  }
}

/** The message of a TlsFileError begins with its key. */
const tlsKey = /^api\.tls\.(\w+) /;

function tlsProblems(given: ApiFiles["tls"]): readonly ApiFileProblem[] {
  const tls = tlsOf(given);
  if (tls === undefined) return [];
  try {
    readTls(tls);
    return [];
  } catch (error) {
    if (!(error instanceof TlsFileError)) throw error;
    const [told = "", key = "certFile"] = tlsKey.exec(error.message) ?? [];
    return [{ path: ["tls", key], message: error.message.slice(told.length), about: tlsFilesOf(tls) }];
  }
}

export const apiFileProblems = ({ tokenFile, tls }: ApiFiles): readonly ApiFileProblem[] => [
  ...(tokenFile === undefined ? [] : tokenProblems(tokenFile)),
  ...tlsProblems(tls),
];
