// Reads a DNS message (RFC 1035) as far as counting and naming need it. Input comes from the network: every offset is
// checked, names and records are bounded, and what is cut off is left out.

export type DnsMessage = {
  readonly id: number;
  readonly response: boolean;
  readonly code: string;
  /** First question, name in lower case without the last dot. */
  readonly name: string;
  readonly type: string;
  readonly answers: readonly { readonly address: Uint8Array; readonly ttlSeconds: number }[];
};

const types: Readonly<Record<number, string>> = {
  1: "A",
  2: "NS",
  5: "CNAME",
  6: "SOA",
  12: "PTR",
  15: "MX",
  16: "TXT",
  28: "AAAA",
  33: "SRV",
  35: "NAPTR",
  43: "DS",
  46: "RRSIG",
  47: "NSEC",
  48: "DNSKEY",
  52: "TLSA",
  64: "SVCB",
  65: "HTTPS",
  255: "ANY",
  257: "CAA",
};

const codes = [
  "NOERROR",
  "FORMERR",
  "SERVFAIL",
  "NXDOMAIN",
  "NOTIMP",
  "REFUSED",
  "YXDOMAIN",
  "YXRRSET",
  "NXRRSET",
  "NOTAUTH",
  "NOTZONE",
];

const OTHER = "OTHER";
const HEADER_BYTES = 12;
const POINTERS_MAX = 16;
const NAME_LENGTH_MAX = 255;
const ANSWERS_MAX = 32;

/** A name and the offset after it; undefined when it is cut off or loops. */
function readName(view: DataView, start: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let at = start;
  let end = -1;
  let length = 0;
  for (let pointers = 0; at < view.byteLength; ) {
    const size = view.getUint8(at);
    if (size === 0) return { name: labels.join(".").toLowerCase(), end: end < 0 ? at + 1 : end };
    if ((size & 0xc0) === 0xc0) {
      if (++pointers > POINTERS_MAX || at + 2 > view.byteLength) return undefined;
      if (end < 0) end = at + 2;
      at = view.getUint16(at) & 0x3fff;
      continue;
    }
    length += size + 1;
    if (size > 63 || length > NAME_LENGTH_MAX || at + 1 + size > view.byteLength) return undefined;
    labels.push(Buffer.from(view.buffer, view.byteOffset + at + 1, size).toString("latin1"));
    at += 1 + size;
  }
  return undefined;
}

const TYPE_A = 1;
const TYPE_AAAA = 28;

/** Addresses of the answer section. CNAMEs between question and address are followed by standing in one answer. */
function readAnswers(view: DataView, start: number, count: number): DnsMessage["answers"] {
  const answers: { address: Uint8Array; ttlSeconds: number }[] = [];
  let at = start;
  for (let i = 0; i < Math.min(count, ANSWERS_MAX); i++) {
    const owner = readName(view, at);
    if (owner === undefined || owner.end + 10 > view.byteLength) break;
    const type = view.getUint16(owner.end);
    const size = view.getUint16(owner.end + 8);
    const data = owner.end + 10;
    if (data + size > view.byteLength) break;
    if ((type === TYPE_A && size === 4) || (type === TYPE_AAAA && size === 16)) {
      const address = new Uint8Array(view.buffer, view.byteOffset + data, size).slice();
      answers.push({ address, ttlSeconds: view.getUint32(owner.end + 4) });
    }
    at = data + size;
  }
  return answers;
}

/** Undefined when the bytes are not a query or response with one question. `tcp` skips the length in front. */
export function parseDnsMessage(bytes: Uint8Array, tcp: boolean): DnsMessage | undefined {
  const skip = tcp ? 2 : 0;
  if (bytes.length < skip + HEADER_BYTES + 5) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + skip, bytes.length - skip);
  const flags = view.getUint16(2);
  const opcode = (flags >>> 11) & 15;
  if (opcode !== 0 || view.getUint16(4) !== 1) return undefined;
  const question = readName(view, HEADER_BYTES);
  if (question === undefined || question.end + 4 > view.byteLength) return undefined;
  const response = (flags & 0x8000) !== 0;
  return {
    id: view.getUint16(0),
    response,
    code: codes[flags & 15] ?? OTHER,
    name: question.name,
    type: types[view.getUint16(question.end)] ?? OTHER,
    answers: response ? readAnswers(view, question.end + 4, view.getUint16(6)) : [],
  };
}
