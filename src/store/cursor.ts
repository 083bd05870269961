// Where a reader of the store is: an opaque text that survives appends, evictions and restarts.

import { StoreQueryError } from "./failure.ts";

export type Order = "newest" | "oldest";

/** `seq` is the last row that was looked at; `generation` is the file that it is in. */
export type Position = { readonly order: Order; readonly generation: number; readonly seq: number };

export function formatCursor({ order, generation, seq }: Position): string {
  return Buffer.from(`1.${order === "newest" ? "n" : "o"}.${generation.toString(36)}.${seq}`).toString(
    "base64url",
  );
}

const form = /^1\.([no])\.([0-9a-z]{1,8})\.(\d{1,16})$/;

/** Throws StoreQueryError unless the cursor was made here, for this file and this order. */
export function parseCursor(text: string, { order, generation }: Omit<Position, "seq">): number {
  const [, direction, file, digits] = form.exec(text.length > 64 ? "" : decoded(text)) ?? [];
  const seq = Number(digits);
  if (direction === undefined || !Number.isSafeInteger(seq))
    throw new StoreQueryError("cursor", "The cursor is not one that this API gave. Start without a cursor.");
  if (file !== generation.toString(36))
    throw new StoreQueryError(
      "cursor",
      "The cursor is of a store that was replaced since. Start without a cursor.",
    );
  if (direction !== (order === "newest" ? "n" : "o"))
    throw new StoreQueryError(
      "cursor",
      "The cursor is of a query in the other order. Keep the order, or start over.",
    );
  return seq;
}

// Buffer skips characters that are not base64: only what encodes back to itself was given by us.
function decoded(text: string): string {
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes.toString("latin1") : "";
}
