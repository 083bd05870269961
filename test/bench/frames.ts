// Frames for runs of programs: Ethernet, IPv4 or IPv6, TCP or UDP, no payload that matters.

const ETHERNET = 14;
const TCP = 6;
const UDP = 17;
const HTTPS = 443;

/** Destinations: the interface's own address is none of them, so that a stack that receives one drops it. */
const macs = new Uint8Array([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);

function ethernet(bytes: Uint8Array, type: number): DataView {
  const view = new DataView(bytes.buffer);
  bytes.set(macs);
  view.setUint16(12, type);
  return view;
}

function transport(view: DataView, at: number, protocol: number): void {
  view.setUint16(at, 1024);
  view.setUint16(at + 2, HTTPS);
  if (protocol === TCP) {
    view.setUint8(at + 12, 5 << 4);
    view.setUint8(at + 13, 0x10); // ACK
  } else {
    view.setUint16(at + 4, view.byteLength - at);
  }
}

function frameV4(length: number, protocol: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = ethernet(bytes, 0x0800);
  view.setUint8(ETHERNET, 0x45);
  view.setUint16(ETHERNET + 2, length - ETHERNET);
  view.setUint8(ETHERNET + 8, 64);
  view.setUint8(ETHERNET + 9, protocol);
  bytes.set([10, 0, 0, 1, 192, 0, 2, 1], ETHERNET + 12);
  transport(view, ETHERNET + 20, protocol);
  return bytes;
}

function frameV6(length: number, protocol: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = ethernet(bytes, 0x86dd);
  view.setUint8(ETHERNET, 0x60);
  view.setUint16(ETHERNET + 4, length - ETHERNET - 40);
  view.setUint8(ETHERNET + 6, protocol);
  view.setUint8(ETHERNET + 7, 64);
  bytes.set([0x20, 0x01, 0x0d, 0xb8], ETHERNET + 8);
  bytes.set([0x20, 0x01, 0x0d, 0xb8, 0, 2], ETHERNET + 24);
  bytes[ETHERNET + 39] = 1;
  transport(view, ETHERNET + 40, protocol);
  return bytes;
}

/** One of a bare acknowledgement with time stamps each. */
export const tcpV4 = (): Uint8Array => frameV4(66, TCP);
export const tcpV6 = (): Uint8Array => frameV6(86, TCP);
export const udpV4 = (): Uint8Array => frameV4(64, UDP);
