// Statistics of network drivers, what `ethtool -S` shows. Layouts are those of linux/ethtool.h.

import { ioctlThrough, LibcError, openSocket, type Socket } from "../libc.ts";

/** A driver's statistics in its order; undefined where a name is not kept. */
type StringSet = {
  readonly driver: string;
  readonly count: number;
  readonly names: readonly (string | undefined)[];
};

export type DriverStatistics = {
  readonly statistics: Readonly<Record<string, number>>;
  /** Statistics past `statisticsMax`. */
  readonly beyond: number;
  /** Values past 2^53, which is how some drivers say that they do not know. */
  readonly unusable: number;
};

export type DriverReader = {
  /** Absent for an interface without driver statistics. Throws a LibcError when the driver fails. */
  read(socket: Socket, name: string): DriverStatistics | undefined;
  /** Forgets the names of interfaces that are no more. */
  keep(names: ReadonlySet<string>): void;
};

const nameBytes = 32; // ETH_GSTRING_LEN
const countMax = 65536;

// Among the counters some drivers tell of their settings and neighbours.
const notCounter = /(^|_)(ifindex|link_speed|speed|duplex|mtu|temperature)$/;

export const openDriverSocket = (): Socket => {
  const AF_INET = 2;
  const SOCK_DGRAM = 2;
  return openSocket(AF_INET, SOCK_DGRAM, 0); // Any socket does: the ioctl belongs to the network namespace.
};

function ask(socket: Socket, name: string, request: DataView<ArrayBuffer>): void {
  const SIOCETHTOOL = 0x8946;
  const argument = new Uint8Array(40); // struct ifreq: name in 16 bytes, then the address of the request
  argument.set(Buffer.from(name).subarray(0, 15));
  ioctlThrough(socket.fd, SIOCETHTOOL, { argument, pointerAt: 16, buffer: new Uint8Array(request.buffer) });
}

function textAt(view: DataView<ArrayBuffer>, at: number): string {
  const text = Buffer.from(view.buffer, at, nameBytes).toString("latin1");
  const zero = text.indexOf("\0");
  return (zero < 0 ? text : text.slice(0, zero)).trim();
}

function askDriver(socket: Socket, name: string): { driver: string; count: number } {
  const ETHTOOL_GDRVINFO = 0x3;
  const information = new DataView(new ArrayBuffer(196));
  information.setUint32(0, ETHTOOL_GDRVINFO, true);
  ask(socket, name, information);
  return { driver: textAt(information, 4), count: information.getUint32(180, true) };
}

// The kernel writes as many entries as the driver has by then, whatever it was told before: leave room for growth.
const withRoom = (count: number): number => 2 * count + 1024;

function askNames(socket: Socket, name: string, count: number): string[] {
  const ETHTOOL_GSTRINGS = 0x1b;
  const ETH_SS_STATS = 1;
  const strings = new DataView(new ArrayBuffer(12 + nameBytes * withRoom(count)));
  strings.setUint32(0, ETHTOOL_GSTRINGS, true);
  strings.setUint32(4, ETH_SS_STATS, true);
  strings.setUint32(8, count, true);
  ask(socket, name, strings);
  const length = strings.getUint32(8, true);
  return Array.from({ length: Math.min(length, withRoom(count)) }, (_, at) =>
    textAt(strings, 12 + nameBytes * at),
  );
}

const valuesBytes = (count: number): number => 8 + 8 * withRoom(count);

/** False when the driver's count has changed, so that values and names no longer match. */
function askValues(
  socket: Socket,
  name: string,
  { count, values }: { count: number; values: DataView<ArrayBuffer> },
): boolean {
  const ETHTOOL_GSTATS = 0x1d;
  values.setUint32(0, ETHTOOL_GSTATS, true);
  values.setUint32(4, count, true);
  ask(socket, name, values);
  return values.getUint32(4, true) === count;
}

/** The first `statisticsMax` names that are counters, each once, and are not told by /proc/net/dev already. */
export function chooseNames(
  names: readonly string[],
  options: { known: ReadonlySet<string>; statisticsMax: number },
): { names: (string | undefined)[]; beyond: number } {
  const seen = new Set<string>();
  let beyond = 0;
  const chosen = names.map((name) => {
    if (name === "" || options.known.has(name) || seen.has(name) || notCounter.test(name)) return undefined;
    if (seen.size >= options.statisticsMax) {
      beyond += 1;
      return undefined;
    }
    seen.add(name);
    return name;
  });
  return { names: chosen, beyond };
}

function readValues(
  view: DataView,
  names: readonly (string | undefined)[],
): Omit<DriverStatistics, "beyond"> {
  const statistics: Record<string, number> = {};
  let unusable = 0;
  names.forEach((name, index) => {
    if (name === undefined) return;
    const value = Number(view.getBigUint64(8 + 8 * index, true));
    if (value > Number.MAX_SAFE_INTEGER) unusable += 1;
    else statistics[name] = value;
  });
  return { statistics, unusable };
}

// No driver statistics: the driver has none (EOPNOTSUPP), or the interface is gone (ENODEV).
function hasNone(error: unknown): boolean {
  const ENODEV = 19;
  const EOPNOTSUPP = 95;
  return error instanceof LibcError && (error.errno === EOPNOTSUPP || error.errno === ENODEV);
}

/** Names are asked for once an interface, and again when its driver or its number of statistics changes. */
export function openDriverReader(options: {
  known: ReadonlySet<string>;
  statisticsMax: number;
}): DriverReader {
  const sets = new Map<string, StringSet & { readonly beyond: number }>();
  let values = new DataView(new ArrayBuffer(valuesBytes(0)));

  const stringSet = (socket: Socket, name: string) => {
    const { driver, count } = askDriver(socket, name);
    if (count === 0 || count > countMax) return undefined;
    const cached = sets.get(name);
    if (cached?.driver === driver && cached.count === count) return cached;
    const names = askNames(socket, name, count);
    if (names.length !== count) return undefined; // Changing just now; the next tick finds it settled.
    const fresh = { driver, count, ...chooseNames(names, options) };
    sets.set(name, fresh);
    return fresh;
  };

  return {
    read(socket, name) {
      try {
        const set = stringSet(socket, name);
        if (set === undefined) return undefined;
        const bytes = valuesBytes(set.count);
        if (values.byteLength < bytes) values = new DataView(new ArrayBuffer(bytes));
        if (!askValues(socket, name, { count: set.count, values })) return undefined;
        return { ...readValues(values, set.names), beyond: set.beyond };
      } catch (error) {
        if (hasNone(error)) return undefined;
        throw error;
      }
    },
    keep(names) {
      for (const name of sets.keys()) if (!names.has(name)) sets.delete(name);
    },
  };
}
