// Numbers as bits and as bytes: fixed widths, varints, and codes that are short for small numbers.

/** Bytes that end too soon, or that no encoder wrote. */
export class MalformedBytesError extends Error {
  override readonly name = "MalformedBytesError";
  // None of SQLite's: the pages of the file read well, and one value in them is no reason to put it aside.
  readonly code = "MALFORMED_BYTES";
}

/** Undefined where the bytes are malformed. */
export function readable<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

/** A signed number as an unsigned one, small where the number is near zero. Exact up to 2^52. */
export const zigzag = (value: number): number => (value < 0 ? -2 * value - 1 : 2 * value);
export function unzigzag(value: number): number {
  if (value < 2 ** 31) return (value >>> 1) ^ -(value & 1);
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

/** Bits that a whole number up to 2^53 takes; none for zero. */
export function bitLength(value: number): number {
  return value < 2 ** 32 ? 32 - Math.clz32(value) : 64 - Math.clz32(Math.floor(value / 2 ** 32));
}

export type ByteWriter = {
  byte(value: number): void;
  /** A whole number up to 2^53, seven bits a byte. */
  varint(value: number): void;
  float(value: number): void;
  /** `value` below 2^`bits`; at most 53 of them. */
  bits(value: number, bits: number): void;
  /** Elias gamma: `value` from 1, in 2 log2 + 1 bits. */
  gamma(value: number): void;
  /** What was written; bits up to a whole byte. A copy. */
  finish(): Uint8Array<ArrayBuffer>;
};

/** Grows as it needs. */
export function createByteWriter(bytesHint = 256): ByteWriter {
  let bytes = new Uint8Array(bytesHint);
  let length = 0;
  let held = 0; // Fewer than 8 bits that make no byte yet.
  let heldBits = 0;

  const byte = (value: number): void => {
    if (length === bytes.length) {
      const larger = new Uint8Array(2 * length);
      larger.set(bytes);
      bytes = larger;
    }
    bytes[length++] = value;
  };

  const bits = (value: number, count: number): void => {
    if (count > 24) {
      bits(Math.floor(value / 2 ** 24), count - 24);
      bits(value % 2 ** 24, 24);
      return;
    }
    held = (held << count) | value;
    heldBits += count;
    while (heldBits >= 8) {
      heldBits -= 8;
      byte((held >>> heldBits) & 0xff);
    }
    held &= (1 << heldBits) - 1;
  };

  return {
    byte,
    bits,
    varint(value) {
      let left = value;
      while (left >= 2 ** 31) {
        byte((left % 128) | 128);
        left = Math.floor(left / 128);
      }
      while (left >= 128) {
        byte((left & 127) | 128);
        left >>>= 7;
      }
      byte(left);
    },
    float(value) {
      for (const one of new Uint8Array(new Float64Array([value]).buffer)) byte(one);
    },
    gamma(value) {
      const width = bitLength(value);
      bits(0, width - 1);
      bits(value, width);
    },
    finish() {
      if (heldBits > 0) bits(0, 8 - heldBits);
      return bytes.slice(0, length);
    },
  };
}

export type ByteReader = {
  byte(): number;
  varint(): number;
  /** So many of them, in half the time. */
  varints(count: number): Float64Array;
  float(): number;
  bits(count: number): number;
  gamma(): number;
  readonly done: boolean;
};

/** Throws MalformedBytesError past the end. */
export function createByteReader(bytes: Uint8Array): ByteReader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let offset = 0;
  let held = 0;
  let heldBits = 0;

  const tooShort = () => new MalformedBytesError(`the ${bytes.length} bytes end too soon`);

  const byte = (): number => {
    const value = bytes[offset++];
    if (value === undefined) throw tooShort();
    return value;
  };

  const bits = (count: number): number => {
    if (count > 24) {
      const high = bits(count - 24);
      return high * 2 ** 24 + bits(24);
    }
    while (heldBits < count) {
      held = (held << 8) | byte();
      heldBits += 8;
    }
    heldBits -= count;
    const value = held >>> heldBits;
    held &= (1 << heldBits) - 1;
    return value;
  };

  return {
    byte,
    bits,
    varint() {
      let one = byte();
      if (one < 128) return one;
      let value = one & 127;
      for (let scale = 128; one >= 128; scale *= 128) {
        if (scale > 2 ** 56) throw new MalformedBytesError("a number has more than 53 bits");
        one = byte();
        value += (one & 127) * scale;
      }
      return value;
    },
    varints(count) {
      if (count > bytes.length - offset) throw tooShort();
      const found = new Float64Array(count);
      for (let index = 0; index < count; index++) {
        let one = bytes[offset++] ?? 0;
        let value = one & 127;
        for (let scale = 128; one >= 128; scale *= 128) {
          one = bytes[offset++] ?? 0; // What is missing ends the number; the check comes after the loop.
          value += (one & 127) * scale;
        }
        found[index] = value;
      }
      if (offset > bytes.length) throw tooShort();
      return found;
    },
    float() {
      if (offset + 8 > bytes.length) throw tooShort();
      offset += 8;
      return view.getFloat64(offset - 8, true);
    },
    gamma() {
      let width = 1;
      while (bits(1) === 0) if (++width > 54) throw new MalformedBytesError("a number has more than 53 bits");
      return 2 ** (width - 1) + bits(width - 1);
    },
    get done() {
      return offset >= bytes.length;
    },
  };
}
