// Addresses as the kernel writes them, in network byte order, to their canonical text.

/** Dotted text of the four bytes at `at`. */
export function ipv4Text(view: DataView, at: number): string {
  return `${view.getUint8(at)}.${view.getUint8(at + 1)}.${view.getUint8(at + 2)}.${view.getUint8(at + 3)}`;
}

/** ::ffff:0:0/96, an IPv4 address in the form of an IPv6 one. */
export function isIpv4Mapped(view: DataView, at: number): boolean {
  return view.getUint32(at) === 0 && view.getUint32(at + 4) === 0 && view.getUint32(at + 8) === 0xffff;
}

// RFC 5952: the longest run of two or more zero groups is shortened, the first one if two are equally long.
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 1 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}

/** RFC 5952 text of the 16 bytes at `at`; an IPv4-mapped address as its dotted IPv4. */
export function ipv6Text(view: DataView, at: number): string {
  if (isIpv4Mapped(view, at)) return ipv4Text(view, at + 12);
  const groups = Array.from({ length: 8 }, (_, index) => view.getUint16(at + 2 * index));
  const hex = (from: number, to?: number) =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(":");
  const { start, length } = longestZeroRun(groups);
  return length < 2 ? hex(0) : `${hex(0, start)}::${hex(start + length)}`;
}
