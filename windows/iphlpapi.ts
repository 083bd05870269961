// The binding of iphlpapi.dll: what TCP, UDP, IP and ICMP counted, TCP sockets, interfaces. All of it is about the network
// compartment of the calling thread, which is the host's: pods in compartments of their own are not seen.

import { toArrayBuffer } from "bun:ffi";
import { ROW_BYTES, ROWS_AT } from "./interface-table.ts";
import {
  icmpStatistics,
  ipStatistics,
  type StatisticsLayout,
  tcpStatistics,
  tcpStatistics2,
  udpStatistics,
  udpStatistics2,
} from "./ip-statistics.ts";
import {
  addressCell,
  addressIn,
  LibraryError,
  openLibrary,
  openOptional,
  type Pointer,
  WindowsError,
} from "./system.ts";
import { createTableReader, type TableBounds } from "./tcp-table.ts";

/** Files of the system directory. `wide` is where the 64-bit calls are looked for: Wine's iphlpapi has none. */
export type Libraries = { readonly main: string; readonly wide: string };

export const iphlpapi: Libraries = { main: "iphlpapi.dll", wide: "iphlpapi.dll" };

/** AF_INET and AF_INET6 of ws2def.h. */
const familyNumbers = { IPv4: 2, IPv6: 23 } as const;
export type Family = keyof typeof familyNumbers;
export const families: readonly Family[] = ["IPv4", "IPv6"];

function checkCode(code: number, what: string): void {
  if (code !== 0) throw new WindowsError(what, code);
}

export type StatisticsCall = {
  readonly name: string;
  readonly layout: StatisticsLayout;
  /** The view is the same each time: it holds until the next call. */
  read(family: Family): DataView;
};

type Export = { readonly name: string; readonly layout: StatisticsLayout };

/** `wide` ones are documented from Windows 10 1709 on: they keep 64 bits of what is counted fastest. Wine has none. */
const statisticsExports = {
  tcp: {
    wide: { name: "GetTcpStatisticsEx2", layout: tcpStatistics2 },
    narrow: { name: "GetTcpStatisticsEx", layout: tcpStatistics },
  },
  udp: {
    wide: { name: "GetUdpStatisticsEx2", layout: udpStatistics2 },
    narrow: { name: "GetUdpStatisticsEx", layout: udpStatistics },
  },
  ip: { narrow: { name: "GetIpStatisticsEx", layout: ipStatistics } },
  icmp: { narrow: { name: "GetIcmpStatisticsEx", layout: icmpStatistics } },
} as const satisfies Readonly<Record<string, { readonly wide?: Export; readonly narrow: Export }>>;

export type StatisticsProtocol = keyof typeof statisticsExports;

type NativeStatistics = (buffer: Uint8Array, family: number) => number;

const statisticsSymbol = (name: string) => ({ [name]: { args: ["ptr", "u32"], returns: "u32" } }) as const;

function statisticsCall({ name, layout }: Export, native: NativeStatistics): StatisticsCall {
  const buffer = new Uint8Array(layout.bytes);
  const view = new DataView(buffer.buffer);
  return {
    name,
    layout,
    read(family) {
      checkCode(native(buffer, familyNumbers[family]), `${name} for ${family}`);
      return view;
    },
  };
}

/** The 64-bit call where it exists, else the 32-bit one. */
export function openStatistics(protocol: StatisticsProtocol, libraries: Libraries): StatisticsCall {
  const exports: { readonly wide?: Export; readonly narrow: Export } = statisticsExports[protocol];
  const { wide, narrow } = exports;
  const found = wide && openOptional(libraries.wide, statisticsSymbol(wide.name))?.symbols[wide.name];
  if (wide !== undefined && found !== undefined) return statisticsCall(wide, found);
  const native = openLibrary(libraries.main, statisticsSymbol(narrow.name)).symbols[narrow.name];
  if (native === undefined) throw new LibraryError(`${libraries.main} has no ${narrow.name}`);
  return statisticsCall(narrow, native);
}

/** The view holds until the next call. */
export type TcpTable = (family: Family) => DataView;

/** 64 MiB are more than a million sockets. */
const tableBounds: TableBounds = { slackBytes: 16 << 10, bytesMax: 64 << 20, roundsMax: 8 };

export function openTcpTable(libraries: Libraries): TcpTable {
  const TCP_TABLE_OWNER_PID_ALL = 5; // Listeners and connections.
  const { symbols } = openLibrary(libraries.main, {
    GetExtendedTcpTable: { args: ["ptr", "ptr", "i32", "u32", "i32", "u32"], returns: "u32" },
  });
  const read = createTableReader(tableBounds);
  return (family) => {
    const { code, view } = read((buffer, size) =>
      symbols.GetExtendedTcpTable(
        ...([buffer, size, 0] as const),
        ...([familyNumbers[family], TCP_TABLE_OWNER_PID_ALL, 0] as const),
      ),
    );
    checkCode(code, `GetExtendedTcpTable for ${family}`);
    return view;
  };
}

/** 88 MiB of table: more interfaces, filters among them, than any machine has. */
const ROWS_MAX = 65_536;

/** A copy, so that nothing points into what is freed. */
function copyTable(table: Pointer): DataView {
  const rows = new DataView(toArrayBuffer(table, 0, ROWS_AT)).getUint32(0, true);
  if (rows > ROWS_MAX) throw new Error(`GetIfTable2: a table of ${rows} interfaces, more than ${ROWS_MAX}`);
  return new DataView(toArrayBuffer(table, 0, ROWS_AT + rows * ROW_BYTES).slice(0));
}

export type InterfaceTable = () => DataView;

export function openInterfaceTable(libraries: Libraries): InterfaceTable {
  const { symbols } = openLibrary(libraries.main, {
    GetIfTable2: { args: ["ptr"], returns: "u32" },
    FreeMibTable: { args: ["ptr"], returns: "void" },
  });
  return () => {
    const cell = addressCell();
    checkCode(symbols.GetIfTable2(cell), "GetIfTable2");
    const table = addressIn(cell);
    if (table === undefined) throw new Error("GetIfTable2 gave no table");
    try {
      return copyTable(table);
    } finally {
      symbols.FreeMibTable(table);
    }
  };
}
