// The version resource of an executable: what Explorer shows of it, and what an installer compares.

import { readFileSync, renameSync, writeFileSync } from "node:fs";

const key = "VS_VERSION_INFO";
/** VS_FIXEDFILEINFO: its signature, and version 1.0 of the structure. */
const fixedHead = Buffer.from([0xbd, 0x04, 0xef, 0xfe, 0, 0, 1, 0]);
/** Length, length of the value and type, then the key with its zero, and padding to four bytes. */
const fixedOffset = 40;

function findBlock(image: Buffer): Buffer | undefined {
  for (let at = image.indexOf(fixedHead); at >= 0; at = image.indexOf(fixedHead, at + 1)) {
    const start = at - fixedOffset;
    if (start < 0 || image.toString("utf16le", start + 6, start + 6 + key.length * 2) !== key) continue;
    return image.subarray(start, start + image.readUInt16LE(start));
  }
  return undefined;
}

/** The four numbers of the file's version as they are written, 1.4.5.0; undefined without such a resource. */
export function fileVersion(image: Buffer): string | undefined {
  const block = findBlock(image);
  if (block === undefined) return undefined;
  const [high, low] = [block.readUInt32LE(fixedOffset + 8), block.readUInt32LE(fixedOffset + 12)];
  return [high >>> 16, high & 0xffff, low >>> 16, low & 0xffff].join(".");
}

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** One node of the resource; `valueLength` counts characters for a text and bytes for anything else. */
function node(name: string, isText: boolean, value: Buffer, children: readonly Buffer[] = []): Buffer {
  const head = Buffer.alloc(6);
  const body = padded(Buffer.concat([head, Buffer.from(`${name}\0`, "utf16le")]));
  const whole = children.reduce(
    (all, child) => Buffer.concat([padded(all), child]),
    Buffer.concat([body, value]),
  );
  whole.writeUInt16LE(whole.length, 0);
  whole.writeUInt16LE(isText ? value.length / 2 : value.length, 2);
  whole.writeUInt16LE(isText ? 1 : 0, 4);
  return whole;
}

/** Language 0x0409, code page 1200: the strings are English, in UTF-16. */
const language = "040904b0";

function fixedInfo(version: string): Buffer {
  const [major = 0, minor = 0, build = 0] = version.split(/[.-]/).map(Number);
  const fixed = Buffer.alloc(52);
  fixedHead.copy(fixed);
  for (const offset of [8, 16]) {
    fixed.writeUInt32LE(major * 0x1_0000 + minor, offset);
    fixed.writeUInt32LE(build * 0x1_0000, offset + 4);
  }
  fixed.writeUInt32LE(0x3f, 24); // Which of the flags mean something; none is set.
  fixed.writeUInt32LE(0x4_0004, 32); // Windows NT, 32-bit and up.
  fixed.writeUInt32LE(1, 36); // An application.
  return fixed;
}

const stringsOf = (version: string): Readonly<Record<string, string>> => ({
  CompanyName: "Fovea",
  FileDescription: "Fovea network observability",
  FileVersion: version,
  LegalCopyright: "Apache-2.0",
  OriginalFilename: "fovea.exe",
  ProductName: "Fovea",
  ProductVersion: version,
});

/**
 * Writes our version resource over the one of Bun, whose program ours is made of. It takes no more room than that one:
 * every section of the file stays where it is.
 */
function stampVersion(image: Buffer, version: string): void {
  const block = findBlock(image);
  if (block === undefined) throw new Error("the executable has no version resource to write over");
  const texts = Object.entries(stringsOf(version)).map(([name, text]) =>
    node(name, true, Buffer.from(`${text}\0`, "utf16le")),
  );
  const none = Buffer.alloc(0);
  const fresh = node(key, false, fixedInfo(version), [
    node("StringFileInfo", true, none, [node(language, true, none, texts)]),
    node("VarFileInfo", true, none, [node("Translation", false, Buffer.from([0x09, 0x04, 0xb0, 0x04]))]),
  ]);
  if (fresh.length > block.length)
    throw new Error(`the version resource has ${block.length} bytes, ${fresh.length} are needed`);
  block.fill(0);
  fresh.copy(block);
}

/** Before it is signed: a signature is of the bytes with it. */
export function stampFile(path: string, version: string): void {
  const image = readFileSync(path);
  stampVersion(image, version);
  writeFileSync(`${path}.stamped`, image, { mode: 0o755 });
  renameSync(`${path}.stamped`, path); // One that runs keeps its file.
}
