// DNS errors from the kernel's events: each 5-tuple once, addresses as records write them, no more than the bound.

import { expect, test } from "bun:test";
import { dnsEvent } from "../bpf/contract.gen.ts";
import { createDnsErrorList } from "../bpf/dns-errors.ts";
import { addressBytes } from "./kernel/packets.ts";

const mapped = (address: string): Uint8Array => {
  const bytes = addressBytes(address);
  return bytes.length === 16 ? bytes : Uint8Array.from([...Array(10).fill(0), 0xff, 0xff, ...bytes]);
};

function event(source: string, destination: string, port: number, protocol = 17): DataView {
  const view = new DataView(new ArrayBuffer(dnsEvent.size + 4), 4);
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  bytes.set(mapped(source), dnsEvent.source);
  bytes.set(mapped(destination), dnsEvent.destination);
  view.setUint16(dnsEvent.sourcePort, 53);
  view.setUint16(dnsEvent.destinationPort, port);
  view.setUint8(dnsEvent.protocol, protocol);
  return view;
}

test("ends are canonical text, IPv4 dotted", () => {
  const list = createDnsErrorList({ max: 8 });
  list.see(event("192.0.2.53", "198.51.100.7", 40_000), "NXDOMAIN");
  list.see(event("2001:db8:0:0:0:0:0:53", "fd00::1", 65_535, 6), "SERVFAIL");
  expect(list.take()).toEqual([
    {
      ...{ source: "192.0.2.53", destination: "198.51.100.7", protocol: 17 },
      ...{ sourcePort: 53, destinationPort: 40_000, code: "NXDOMAIN" },
    },
    {
      ...{ source: "2001:db8::53", destination: "fd00::1", protocol: 6 },
      ...{ sourcePort: 53, destinationPort: 65_535, code: "SERVFAIL" },
    },
  ]);
  expect(list.take()).toEqual([]);
});

test("a message that is seen again is one error, translated on the way it is two, and the last code counts", () => {
  const list = createDnsErrorList({ max: 8 });
  list.see(event("192.0.2.53", "198.51.100.7", 1), "SERVFAIL");
  list.see(event("10.96.0.10", "198.51.100.7", 1), "NXDOMAIN");
  list.see(event("192.0.2.53", "198.51.100.7", 1), "NXDOMAIN");
  expect(list.take().map(({ source, code }) => [source, code])).toEqual([
    ["192.0.2.53", "NXDOMAIN"],
    ["10.96.0.10", "NXDOMAIN"],
  ]);
});

test("what does not fit is counted, what is there already fits", () => {
  const list = createDnsErrorList({ max: 2 });
  for (const port of [1, 2, 3, 1, 4]) list.see(event("192.0.2.53", "198.51.100.7", port), "REFUSED");
  expect(list.left()).toBe(2);
  expect(list.take().map(({ destinationPort }) => destinationPort)).toEqual([1, 2]);
  list.see(event("192.0.2.53", "198.51.100.7", 3), "REFUSED");
  expect(list.take().length).toBe(1);
  expect(list.left()).toBe(2);
});
