// A compressed file that grows by whole gzip members, each of which says its size: after a crash its end is found again.

import type { FileHandle } from "node:fs/promises";
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";

// RFC 1952: magic, deflate, FEXTRA, no time, no hint, unknown system; then one extra field "FV" of 4 bytes, which is
// the size of the whole member, little endian. Other readers pass over it.
const start = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 8, 0, 0x46, 0x56, 4, 0]);
const headBytes = start.length + 4;
/** CRC-32 and size of what was compressed. */
const tailBytes = 8;

export function gzipMember(raw: Uint8Array): Uint8Array<ArrayBuffer> {
  const packed = deflateRawSync(raw);
  const member = new Uint8Array(headBytes + packed.length + tailBytes);
  const view = new DataView(member.buffer);
  member.set(start);
  view.setUint32(start.length, member.length, true);
  member.set(packed, headBytes);
  view.setUint32(member.length - tailBytes, crc32(raw), true);
  view.setUint32(member.length - 4, raw.length % 2 ** 32, true);
  return member;
}

/** What was compressed, undefined when it is no whole member of ours. */
function readMember(member: Buffer): Buffer | undefined {
  try {
    const raw = inflateRawSync(member.subarray(headBytes, -tailBytes));
    return crc32(raw) === member.readUInt32LE(member.length - tailBytes) ? raw : undefined;
  } catch {
    return undefined; // Whatever zlib has to say: these bytes never were a member.
  }
}

export async function readAt(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const bytes = Buffer.alloc(to - from);
  let read = 0;
  while (read < bytes.length) {
    const { bytesRead } = await file.read(bytes, read, bytes.length - read, from + read);
    if (bytesRead === 0) break;
    read += bytesRead;
  }
  return bytes.subarray(0, read);
}

type Member = { readonly from: number; readonly to: number };

/** The last member that ends at `limit` or before, by what the members say of their sizes. */
async function lastBefore(file: FileHandle, limit: number): Promise<Member> {
  let last: Member = { from: 0, to: 0 };
  while (last.to + headBytes + tailBytes <= limit) {
    const head = await readAt(file, last.to, last.to + headBytes);
    if (head.length < headBytes || !head.subarray(0, start.length).equals(start)) break;
    const bytes = head.readUInt32LE(start.length);
    if (bytes < headBytes + tailBytes || last.to + bytes > limit) break;
    last = { from: last.to, to: last.to + bytes };
  }
  return last;
}

const pieceBytes = 2 ** 20;

/** Whether another member begins after `from`: then what stands at `from` is no torn end. */
async function anyAfter(file: FileHandle, from: number, size: number): Promise<boolean> {
  for (let at = from + 1; at < size; at += pieceBytes) {
    const piece = await readAt(file, at, Math.min(size, at + pieceBytes + start.length - 1));
    if (piece.includes(start)) return true;
  }
  return false;
}

export type WholeMembers = {
  /** Where the last whole member ends; 0 when there is none. */
  readonly bytes: number;
  /** What is in that one. */
  readonly last: Buffer;
};

/** Throws when the file is damaged elsewhere than at its end. */
export async function wholeMembers(file: FileHandle, size: number): Promise<WholeMembers> {
  let limit = size;
  for (;;) {
    const { from, to } = await lastBefore(file, limit);
    if (limit === size && to < size && (await anyAfter(file, to, size)))
      throw new Error(`is damaged at byte ${to}, before its end`);
    if (to === 0) return { bytes: 0, last: Buffer.alloc(0) };
    const last = readMember(await readAt(file, from, to));
    if (last !== undefined) return { bytes: to, last };
    limit = from;
  }
}
