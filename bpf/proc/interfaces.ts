// The `interfaces` collector: what the kernel and the drivers counted on each interface of the host.

import { readFileSync } from "node:fs";
import type { Collector, InterfaceCounters } from "../../src/snapshot.ts";
import { LibcError, type Socket } from "../libc.ts";
import { type DriverReader, type DriverStatistics, openDriverReader, openDriverSocket } from "./ethtool.ts";
import { deviceStatisticNames, parseDevices } from "./net-files.ts";

/** What one reading left out. */
type LeftOut = { beyond: number; unusable: number; failures: number; firstFailure: string | undefined };

function limitsOf(leftOut: LeftOut, interfacesBeyond: number): string[] {
  const { beyond, unusable, failures, firstFailure } = leftOut;
  const limits: string[] = [];
  if (interfacesBeyond > 0)
    limits.push(`${interfacesBeyond} interfaces are not counted: more than interfacesMax.`);
  if (beyond > 0)
    limits.push(`${beyond} driver statistics are not counted: more than statisticsMax an interface.`);
  if (unusable > 0) limits.push(`${unusable} driver statistics are past 2^53 and not counted.`);
  if (failures > 0)
    limits.push(`Driver statistics of ${failures} interfaces failed, the first with: ${firstFailure ?? ""}.`);
  return limits;
}

// A driver that fails (a firmware that hangs) costs its own statistics alone.
function readDriver(
  reader: DriverReader,
  options: { socket: Socket; name: string; leftOut: LeftOut },
): DriverStatistics | undefined {
  const { socket, name, leftOut } = options;
  try {
    return reader.read(socket, name);
  } catch (error) {
    if (!(error instanceof LibcError)) throw error;
    leftOut.failures += 1;
    leftOut.firstFailure ??= `${name}: ${error.message}`;
    return undefined;
  }
}

/** Both bounds are counted in the snapshot's limits when they are met. */
export function interfacesCollector(
  options: { interfacesMax?: number; statisticsMax?: number; procDir?: string } = {},
): Collector {
  const { interfacesMax = 4096, statisticsMax = 1024, procDir = "/proc" } = options;
  const reader = openDriverReader({ known: new Set(deviceStatisticNames), statisticsMax });

  const withDriver = (device: InterfaceCounters, context: { socket: Socket; leftOut: LeftOut }) => {
    const driver = readDriver(reader, { ...context, name: device.interface });
    if (driver === undefined) return device;
    context.leftOut.beyond += driver.beyond;
    context.leftOut.unusable += driver.unusable;
    return { interface: device.interface, statistics: { ...device.statistics, ...driver.statistics } };
  };

  return {
    name: "interfaces",
    collect() {
      const all = parseDevices(readFileSync(`${procDir}/net/dev`, "utf8"), "dev");
      const devices = all.slice(0, interfacesMax);
      reader.keep(new Set(devices.map((device) => device.interface)));
      const leftOut: LeftOut = { beyond: 0, unusable: 0, failures: 0, firstFailure: undefined };
      using socket = openDriverSocket();
      const interfaces = devices.map((device) => withDriver(device, { socket, leftOut }));
      return { interfaces, limits: limitsOf(leftOut, all.length - devices.length) };
    },
  };
}
