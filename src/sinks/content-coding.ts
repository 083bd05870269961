// Unpacks an answer that came packed although it was asked for plain, no further than a bound.

import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";

const unpackers: Readonly<Record<string, () => Transform>> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  br: () => createBrotliDecompress(),
  zstd: () => createZstdDecompress(),
};

const codingMax = 32;

/** What is whole of it, and at most so many bytes. */
async function unpack(stream: Transform, body: Uint8Array, bytesMax: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  stream.end(body);
  try {
    for await (const part of stream) {
      parts.push(part);
      length += part.length;
      // Leaving the loop ends the stream: what else is packed in there is never unpacked.
      if (length >= bytesMax) break;
    }
  } catch {
    // It is damaged, or was cut off at the bound: what came before tells what it can.
  }
  return Buffer.concat(parts).subarray(0, bytesMax);
}

/** As it is where it is not packed; a sentence in its place where it cannot be unpacked. */
export async function plainBody(
  body: Uint8Array<ArrayBuffer>,
  headers: Headers,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const coding = (headers.get("content-encoding") ?? "identity").trim().toLowerCase();
  if (body.length === 0 || coding === "identity" || coding === "") return body;
  const unpacker = Object.hasOwn(unpackers, coding) ? unpackers[coding] : undefined;
  const plain = unpacker === undefined ? new Uint8Array() : await unpack(unpacker(), body, bytesMax);
  if (plain.length > 0) return new Uint8Array(plain);
  const name = coding.replace(/[^a-z0-9, -]/g, "").slice(0, codingMax);
  return new TextEncoder().encode(`(an answer of content-encoding ${name}, which cannot be read)`);
}
