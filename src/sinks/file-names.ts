// Names of the files that a file sink writes, and which of them are in its directory.

import { readdir } from "node:fs/promises";
import type { Signal } from "./sink.ts";

/** Growing; complete; what a complete one's checksum stands in; what could not be completed after a crash. */
const ends = { part: ".part", whole: "", sum: ".sha256", damaged: ".damaged" } as const;
export type FileState = keyof typeof ends;

export type NamedFile = {
  /** Of the complete file. */
  readonly name: string;
  readonly signal: Signal;
  /** Rises with each file that is begun, whatever its signal. */
  readonly number: number;
  readonly packed: boolean;
  readonly state: FileState;
};

export type FileNames = {
  /** The name of a file whose first record is of `firstAt`, epoch milliseconds. */
  name(file: { readonly signal: Signal; readonly firstAt: number; readonly number: number }): string;
  /** Those in the directory, in no order. */
  list(): Promise<readonly NamedFile[]>;
};

export const partOf = (name: string): string => name + ends.part;
export const sumOf = (name: string): string => name + ends.sum;
export const damagedOf = (name: string): string => name + ends.damaged;

const formats = { flows: ".ndjson", metrics: ".prom" } as const;

/** `20260131T235959Z`, in UTC. */
const stampOf = (at: number): string => `${new Date(at).toISOString().replaceAll(/[-:]/g, "").slice(0, 15)}Z`;

/** A node may have any name; a file of a disk that is carried about may not. */
const plain = (node: string): string => node.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(0, 100);

export function createFileNames({
  directory,
  node,
  compress,
}: {
  readonly directory: string;
  readonly node: string;
  readonly compress: boolean;
}): FileNames {
  const ours = plain(node);
  const escaped = ours.replaceAll(".", "\\.");
  const pattern = new RegExp(
    `^((flows|metrics)-${escaped}-\\d{8}T\\d{6}Z-(\\d{1,12})\\.(?:ndjson|prom)(\\.gz)?)(\\.part|\\.sha256|\\.damaged|)$`,
  );
  const read = (entry: string): NamedFile | undefined => {
    const [, name, signal, number, packed, end] = pattern.exec(entry) ?? [];
    if (name === undefined || (signal !== "flows" && signal !== "metrics")) return undefined;
    const states = Object.keys(ends) as readonly FileState[];
    const state = states.find((one) => ends[one] === end) ?? "whole";
    return { name, signal, number: Number(number), packed: packed !== undefined, state };
  };
  return {
    name: ({ signal, firstAt, number }) =>
      `${signal}-${ours}-${stampOf(firstAt)}-${number}${formats[signal]}${compress ? ".gz" : ""}`,
    list: async () => (await readdir(directory)).map(read).filter((file) => file !== undefined),
  };
}
