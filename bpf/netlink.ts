// Netlink: builds requests, reads messages and their attributes, runs dumps. Layouts are those of linux/netlink.h.

import {
  bindSocket,
  LibcError,
  openSocket,
  receiveBytes,
  type Socket,
  sendBytes,
  setSocketOption,
} from "./libc.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;

export const ENOENT = 2;
export const ENOBUFS = 105;

const headerBytes = 16;
const attributeHeaderBytes = 4;
// The kernel makes dump packets as big as the reader's buffer, up to 32 KiB; events are smaller.
const packetBytesMax = 65536;

const NLM_F_REQUEST = 1;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;

/** One message where it lies in the receive buffer: valid only until the callback returns. */
export type NetlinkMessage = {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly view: DataView;
  /** The body, from the byte after the header to the byte before `end`. */
  readonly start: number;
  readonly end: number;
};

const aligned = (bytes: number): number => (bytes + 3) & ~3;

export function openNetlink(protocol: number): Socket {
  const AF_NETLINK = 16;
  const SOCK_RAW = 3;
  return openSocket(AF_NETLINK, SOCK_RAW, protocol);
}

/** Joins multicast groups, given as a mask of the first 32. */
export function joinGroups(socket: Socket, groups: number): void {
  const AF_NETLINK = 16;
  const address = new DataView(new ArrayBuffer(12)); // struct sockaddr_nl; port 0: the kernel chooses.
  address.setUint16(0, AF_NETLINK, true);
  address.setUint32(8, groups, true);
  bindSocket(socket.fd, new Uint8Array(address.buffer));
}

/** Room for messages that wait; past `net.core.rmem_max` where CAP_NET_ADMIN allows it. */
export function setReceiveRoom(socket: Socket, bytes: number): void {
  const SOL_SOCKET = 1;
  const SO_RCVBUF = 8;
  const SO_RCVBUFFORCE = 33;
  setSocketOption(socket.fd, SOL_SOCKET, SO_RCVBUF, bytes);
  try {
    setSocketOption(socket.fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes);
  } catch (error) {
    if (!(error instanceof LibcError)) throw error; // Not privileged: what rmem_max allowed stays.
  }
}

function requestMessage(request: {
  type: number;
  flags: number;
  sequence: number;
  body: Uint8Array;
}): Uint8Array {
  const message = new Uint8Array(aligned(headerBytes + request.body.length));
  const view = new DataView(message.buffer);
  view.setUint32(0, headerBytes + request.body.length, true);
  view.setUint16(4, request.type, true);
  view.setUint16(6, request.flags, true);
  view.setUint32(8, request.sequence, true);
  message.set(request.body, headerBytes);
  return message;
}

/** An attribute with a 32-bit value, to put behind a request's body. */
export function attributeU32(type: number, value: number): Uint8Array {
  const attribute = new DataView(new ArrayBuffer(attributeHeaderBytes + 4));
  attribute.setUint16(0, attribute.byteLength, true);
  attribute.setUint16(2, type, true);
  attribute.setUint32(attributeHeaderBytes, value, true);
  return new Uint8Array(attribute.buffer);
}

/** Walks the messages of one packet. */
export function eachMessage(packet: Uint8Array, each: (message: NetlinkMessage) => void): void {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  for (let at = 0; at + headerBytes <= view.byteLength; ) {
    const length = view.getUint32(at, true);
    const end = at + length;
    if (length < headerBytes || end > view.byteLength)
      throw new Error(
        `netlink message of ${length} bytes, with ${view.byteLength - at} bytes left in its packet`,
      );
    each({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      view,
      start: at + headerBytes,
      end,
    });
    at = aligned(end);
  }
}

/** Walks attributes between two offsets; nested ones are walked by another call on their payload. */
export function eachAttribute(
  { view, start, end }: { view: DataView; start: number; end: number },
  each: (type: number, start: number, end: number) => void,
): void {
  const NLA_TYPE_MASK = 0x3fff;
  for (let at = start; at + attributeHeaderBytes <= end; ) {
    const length = view.getUint16(at, true);
    if (length < attributeHeaderBytes || at + length > end)
      throw new Error(`netlink attribute of ${length} bytes, with ${end - at} bytes left in its message`);
    each(view.getUint16(at + 2, true) & NLA_TYPE_MASK, at + attributeHeaderBytes, at + length);
    at = aligned(at + length);
  }
}

/** Text of a string attribute, without the zero at its end. */
export function attributeText(view: DataView, start: number, end: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + start, end - start);
  const zero = bytes.indexOf(0);
  return bytes.toString("utf8", 0, zero < 0 ? bytes.length : zero);
}

/**
 * Hands over what waits on the socket, without waiting, up to `packetsMax` packets. A LibcError with ENOBUFS says that
 * the kernel lost messages for want of room.
 */
export function receiveWaiting(
  socket: Socket,
  options: { packetsMax: number; each: (message: NetlinkMessage) => void },
): void {
  const buffer = new Uint8Array(packetBytesMax);
  for (let packets = 0; packets < options.packetsMax; packets++) {
    const got = receiveBytes(socket.fd, buffer, false);
    if (got === undefined) return;
    eachMessage(buffer.subarray(0, got), options.each);
  }
}

export type Dump = {
  /** What is asked for, for the text of errors. */
  readonly what: string;
  readonly type: number;
  readonly body: Uint8Array;
  /** Called at the start, and again when what was handed over so far is void because the kernel's list changed. */
  readonly begin: () => void;
  readonly each: (message: NetlinkMessage) => void;
};

function dumpError(message: NetlinkMessage, what: string): LibcError | undefined {
  if (message.type === NLMSG_OVERRUN) return new LibcError(what, ENOBUFS);
  const code = message.end - message.start >= 4 ? message.view.getInt32(message.start, true) : 0;
  return code < 0 ? new LibcError(what, -code) : undefined;
}

/** Asks for one thing. The kernel answers while it is asked, once or with an error. */
export function runGet({ fd }: Socket, get: Pick<Dump, "what" | "type" | "body" | "each">): void {
  const { what, type, body } = get;
  // Some answers of older kernels go to those who listen to changes, and to who asks only by this flag.
  const NLM_F_ECHO = 0x8;
  sendBytes(fd, requestMessage({ type, flags: NLM_F_REQUEST | NLM_F_ECHO, sequence: 1, body }));
  const buffer = new Uint8Array(packetBytesMax);
  const got = receiveBytes(fd, buffer, false) ?? 0;
  eachMessage(buffer.subarray(0, got), (message) => {
    const failure = message.type === NLMSG_ERROR ? dumpError(message, what) : undefined;
    if (failure !== undefined) throw failure;
    get.each(message);
  });
}

type DumpState = { done: boolean; interrupted: boolean };

function readDumpMessage(message: NetlinkMessage, dump: Dump, state: DumpState): void {
  if ((message.flags & NLM_F_DUMP_INTR) !== 0) state.interrupted = true;
  if (message.type === NLMSG_NOOP) return;
  if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE && message.type !== NLMSG_OVERRUN) {
    dump.each(message);
    return;
  }
  const failure = dumpError(message, dump.what);
  if (failure !== undefined) throw failure;
  if (message.type === NLMSG_DONE) state.done = true;
}

/** Where a dump goes; `receive` gives undefined when nothing waits. */
export type DumpTransport = {
  readonly send: (message: Uint8Array) => void;
  readonly receive: (into: Uint8Array) => number | undefined;
};

function dumpOnce(transport: DumpTransport, dump: Dump, sequence: number): { interrupted: boolean } {
  const { type, body } = dump;
  transport.send(requestMessage({ type, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence, body }));
  const buffer = new Uint8Array(packetBytesMax);
  const state: DumpState = { done: false, interrupted: false };
  while (!state.done) {
    // The kernel writes the next packet during send and recv: if none is there, none will come.
    const got = transport.receive(buffer);
    if (got === undefined) throw new Error(`${dump.what}: the kernel's answer has no end`);
    eachMessage(buffer.subarray(0, got), (message) => {
      if (message.sequence === sequence) readDumpMessage(message, dump, state);
    });
  }
  return { interrupted: state.interrupted };
}

/** `runDump` over any transport. */
export function runDumpOver(transport: DumpTransport, dump: Dump): { interrupted: boolean } {
  const attemptsMax = 4;
  let interrupted = true;
  for (let attempt = 1; interrupted && attempt <= attemptsMax; attempt++) {
    dump.begin();
    ({ interrupted } = dumpOnce(transport, dump, attempt));
  }
  return { interrupted };
}

/**
 * Asks for a list and hands over each message as it comes, never holding the list. Starts again when the list
 * changed meanwhile; if it changed every time, the last answer stands and `interrupted` is true.
 */
export function runDump({ fd }: Socket, dump: Dump): { interrupted: boolean } {
  const transport: DumpTransport = {
    send: (message) => sendBytes(fd, message),
    receive: (into) => receiveBytes(fd, into, false),
  };
  return runDumpOver(transport, dump);
}
