// Builds frames byte by byte, right or wrong on purpose.

import ipaddr from "ipaddr.js";

export const protocols = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, none: 59, sctp: 132 } as const;
export const etherTypes = { ip: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const;
export const tcpFlags = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32, ECE: 64, CWR: 128 } as const;

export const addressBytes = (address: string): Uint8Array =>
  Uint8Array.from(ipaddr.parse(address).toByteArray());

export const concat = (...parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);

const macBytes = (mac: string): Uint8Array =>
  Uint8Array.from(mac.split(":"), (byte) => Number.parseInt(byte, 16));

function words16(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 2));
  values.forEach((value, i) => {
    view.setUint16(i * 2, value);
  });
  return new Uint8Array(view.buffer);
}

/** The internet checksum (RFC 1071). */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export type LinkEnds = { readonly to: string; readonly from: string };

/** A frame; `tags` are VLAN tags, outermost first, each its type and identifier. */
export function ethernet(
  ends: LinkEnds,
  type: number,
  payload: Uint8Array,
  tags: readonly { readonly type: number; readonly id: number }[] = [],
): Uint8Array {
  const tagBytes = tags.map((tag) => words16(tag.type, tag.id));
  return concat(macBytes(ends.to), macBytes(ends.from), ...tagBytes, words16(type), payload);
}

export type Ends = { readonly source: string; readonly destination: string };

export function ipv4(
  { source, destination }: Ends,
  protocol: number,
  payload: Uint8Array,
  more: { options?: Uint8Array; id?: number; offset?: number; moreFragments?: boolean; ttl?: number } = {},
): Uint8Array {
  const options = more.options ?? new Uint8Array(0);
  const length = 20 + options.length;
  const header = concat(
    words16(0x4000 | ((length / 4) << 8), length + payload.length, more.id ?? 0),
    words16((more.moreFragments === true ? 0x2000 : 0) | ((more.offset ?? 0) / 8)),
    words16(((more.ttl ?? 64) << 8) | protocol, 0),
    ...[addressBytes(source), addressBytes(destination), options],
  );
  new DataView(header.buffer, header.byteOffset).setUint16(10, checksum(header));
  return concat(header, payload);
}

export function ipv6({ source, destination }: Ends, next: number, payload: Uint8Array): Uint8Array {
  const head = words16(0x6000, 0, payload.length, (next << 8) | 64);
  return concat(head, addressBytes(source), addressBytes(destination), payload);
}

/** Extension headers of IPv6 but the fragment header; `units` are the 8 bytes that follow the first 8. */
export function extension(next: number, payload: Uint8Array, units = 0): Uint8Array {
  const body = new Uint8Array(6 + units * 8);
  body[0] = 1; // One PadN option fills it, in the two kinds that hold options.
  body[1] = body.length - 2;
  return concat(Uint8Array.of(next, units), body, payload);
}

export const extensions = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;

export function fragment6(
  next: number,
  payload: Uint8Array,
  { offset, more, id }: { offset: number; more: boolean; id: number },
): Uint8Array {
  return concat(words16(next << 8, offset | (more ? 1 : 0), id >>> 16, id & 0xffff), payload);
}

export type Ports = { readonly sourcePort: number; readonly destinationPort: number };

/** Without a checksum, which IPv4 allows and packet sockets do not ask for. */
export const udp = ({ sourcePort, destinationPort }: Ports, payload: Uint8Array): Uint8Array =>
  concat(words16(sourcePort, destinationPort, 8 + payload.length, 0), payload);

export function tcp({ sourcePort, destinationPort }: Ports, flags: number, payload: Uint8Array): Uint8Array {
  return concat(
    words16(sourcePort, destinationPort, 0, 1, 0, 1),
    words16(0x5000 | flags, 1024, 0, 0),
    payload,
  );
}

/** A segment with the checksum that a stack asks for, in its packet. */
export function tcpPacket(ends: Ends, ports: Ports, flags: number, payload: Uint8Array): Uint8Array {
  const segment = tcp(ports, flags, payload);
  const addresses = concat(addressBytes(ends.source), addressBytes(ends.destination));
  const pseudo = concat(addresses, words16(0, segment.length, 0, protocols.tcp));
  new DataView(segment.buffer, segment.byteOffset).setUint16(16, checksum(concat(pseudo, segment)));
  return addresses.length === 8 ? ipv4(ends, protocols.tcp, segment) : ipv6(ends, protocols.tcp, segment);
}

/** What the kernel is told of a TCP frame that it is to cut: bytes of payload in a segment. */
export type Uncut = {
  readonly frame: Uint8Array;
  readonly headerBytes: number;
  readonly segmentBytes: number;
};

/** The frame with a struct virtio_net_hdr in front, as a guest hands it over: without checksum and count of segments. */
export function withGuestHeader({ frame, headerBytes, segmentBytes }: Uncut): Uint8Array {
  const header = new DataView(new ArrayBuffer(10));
  const [needsChecksum, tcpBytes, checksumAt] = [1, 20, 16];
  header.setUint8(0, needsChecksum);
  header.setUint8(1, frame[12] === etherTypes.ip >>> 8 ? 1 : 4); // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6
  [headerBytes, segmentBytes, headerBytes - tcpBytes, checksumAt].forEach((value, i) => {
    header.setUint16(2 + i * 2, value, true);
  });
  return concat(new Uint8Array(header.buffer), frame);
}

export const icmp = (type: number, code: number, payload: Uint8Array): Uint8Array =>
  concat(words16((type << 8) | code, 0, 1, 1), payload);

export const zeros = (length: number): Uint8Array => new Uint8Array(length);
