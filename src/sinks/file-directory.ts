// The directory of a file sink: numbers of its files, what a crash left there, and how much may be there.

import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../store/failure.ts";
import { damagedOf, type FileNames, type NamedFile, sumOf } from "./file-names.ts";
import { beginFile, completeLeftover, type GrowingFile, setAside } from "./file-part.ts";
import type { FileFacts, Signal } from "./sink.ts";

/** However small they are: all are looked at whenever one is completed. */
const filesMax = 10_000;

/** Each of its functions is called while nothing else happens in the directory. */
export type FileDirectory = {
  readonly counts: { -readonly [Key in keyof FileFacts]: FileFacts[Key] };
  begin(file: {
    readonly signal: Signal;
    readonly firstAt: number;
  }): Promise<{ readonly name: string; readonly file: GrowingFile }>;
  /** Completes all growing files but those that are open. */
  finishLeftovers(open: ReadonlySet<string>): Promise<void>;
  /** Removes the oldest files that do not grow while there are too many bytes of them. */
  prune(): Promise<void>;
};

export function createFileDirectory({
  directory,
  names,
  packed,
  totalMax,
  isOfDisk,
  onRemoval,
}: {
  readonly directory: string;
  readonly names: FileNames;
  readonly packed: boolean;
  readonly totalMax: number;
  /** Whether an error is none of the one file. */
  readonly isOfDisk: (error: unknown) => boolean;
  /** The first one since the start is removed for its room. */
  readonly onRemoval: () => void;
}): FileDirectory {
  const counts = { completed: 0, leftovers: 0, damaged: 0, removed: 0, removedBytes: 0 };
  let numbered = 0;

  const finishLeftover = async (file: NamedFile): Promise<void> => {
    try {
      if (await completeLeftover(directory, file)) counts.leftovers++;
    } catch (error) {
      if (isOfDisk(error)) throw error;
      await setAside(directory, file);
      counts.damaged++;
    }
  };

  return {
    counts,
    async begin({ signal, firstAt }) {
      for (const { number } of await names.list()) numbered = Math.max(numbered, number);
      const name = names.name({ signal, firstAt, number: ++numbered });
      return { name, file: await beginFile(directory, { name, signal, packed }) };
    },
    async finishLeftovers(open) {
      const parts = (await names.list()).filter(({ state, name }) => state === "part" && !open.has(name));
      for (const part of parts.toSorted(byNumber)) await finishLeftover(part);
    },
    async prune() {
      const ended = (await names.list()).filter(({ state }) => state === "whole" || state === "damaged");
      const oldest = ended.toSorted(byNumber);
      const sizes = await Promise.all(oldest.map((file) => sizeOf(pathOf(directory, file))));
      let bytes = sizes.reduce((sum, size) => sum + size, 0);
      for (const [index, file] of oldest.entries()) {
        if (bytes <= totalMax && oldest.length - index <= filesMax) break;
        if (counts.removed === 0) onRemoval();
        await rm(pathOf(directory, file), { force: true });
        await rm(join(directory, sumOf(file.name)), { force: true });
        bytes -= sizes[index] ?? 0;
        counts.removed++;
        counts.removedBytes += sizes[index] ?? 0;
      }
    },
  };
}

const byNumber = (a: NamedFile, b: NamedFile): number => a.number - b.number;

const pathOf = (directory: string, { name, state }: NamedFile): string =>
  join(directory, state === "damaged" ? damagedOf(name) : name);

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return 0; // Taken away since it was listed.
    throw error;
  }
}
