// The type of what is used of snappyjs, which has none of its own.

declare module "snappyjs" {
  /** The block format, without frames. */
  export function compress(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
  export function uncompress(bytes: Uint8Array<ArrayBuffer>, lengthMax?: number): Uint8Array<ArrayBuffer>;
}
