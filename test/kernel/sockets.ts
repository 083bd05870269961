// Sockets of this process in other namespaces: what tests send and receive, to the byte.

import {
  bindSocket,
  openSocket,
  receiveBytes,
  sendBytes,
  sendBytesTo,
  setSocketOption,
} from "../../bpf/libc.ts";
import { linkFacts } from "./lab.ts";
import { addressBytes } from "./packets.ts";
import type { TestNamespace } from "./proc-namespace.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const AF_PACKET = 17;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: string, port: number): Uint8Array {
  const bytes = addressBytes(address);
  const v4 = bytes.length === 4;
  const view = new DataView(new ArrayBuffer(v4 ? 16 : 28));
  view.setUint16(0, v4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  new Uint8Array(view.buffer).set(bytes, v4 ? 4 : 8);
  return new Uint8Array(view.buffer);
}

export type PacketSocket = Disposable & { send(frame: Uint8Array): void };

/** Writes whole frames to an interface; nothing is received. With `guest`, each has the header of a guest in front. */
export function openPacketSocket(at: TestNamespace, device: string, guest = false): PacketSocket {
  const { ifindex } = linkFacts(at, device);
  const socket = at.inside(() => openSocket(AF_PACKET, SOCK_RAW, 0));
  const address = new DataView(new ArrayBuffer(20)); // struct sockaddr_ll
  address.setUint16(0, AF_PACKET, true);
  address.setInt32(4, ifindex, true);
  bindSocket(socket.fd, new Uint8Array(address.buffer));
  if (guest) setSocketOption(socket.fd, SOL_PACKET, PACKET_VNET_HDR, 1);
  return {
    send: (frame) => sendBytes(socket.fd, frame),
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  };
}

export type UdpSocket = Disposable & {
  send(to: { address: string; port: number }, payload: Uint8Array): void;
  /** Datagrams that wait, and their bytes of payload. */
  received(): { packets: number; bytes: number };
};

/** A UDP socket, as such with room for whatever a test sends at once. */
export function openUdp(
  at: TestNamespace,
  local: { address: string; port: number },
  receiveBytesMax = 64 << 20,
): UdpSocket {
  const family = addressBytes(local.address).length === 4 ? AF_INET : AF_INET6;
  const socket = at.inside(() => openSocket(family, SOCK_DGRAM, 0));
  setSocketOption(socket.fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBytesMax);
  setSocketOption(socket.fd, SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20);
  bindSocket(socket.fd, socketAddress(local.address, local.port));
  const into = new Uint8Array(65_536);
  return {
    send: ({ address, port }, payload) => sendBytesTo(socket.fd, payload, socketAddress(address, port)),
    received() {
      let packets = 0;
      let bytes = 0;
      for (let got = receiveBytes(socket.fd, into, false); got !== undefined; ) {
        packets += 1;
        bytes += got;
        got = receiveBytes(socket.fd, into, false);
      }
      return { packets, bytes };
    },
    [Symbol.dispose]: () => socket[Symbol.dispose](),
  };
}
