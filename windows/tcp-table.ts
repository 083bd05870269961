// The table of TCP sockets (GetExtendedTcpTable): a buffer that grows until it fits, and sockets by state.

/** A row of MIB_TCPTABLE_OWNER_PID or MIB_TCP6TABLE_OWNER_PID of tcpmib.h. */
export type TcpRow = { readonly bytes: number; readonly stateAt: number };

export const tcpRows = {
  IPv4: { bytes: 24, stateAt: 0 },
  IPv6: { bytes: 56, stateAt: 48 },
} as const satisfies Readonly<Record<string, TcpRow>>;

/** dwNumEntries, then the rows, which need no more than four bytes of alignment. */
const ROWS_AT = 4;

/**
 * MIB_TCP_STATE of tcpmib.h by number, from 1, by the names of Linux. Linux has no DELETE_TCB: a connection whose memory
 * is being given back.
 */
const stateNames = [
  ...["CLOSE", "LISTEN", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1"],
  ...["FIN_WAIT2", "CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT", "DELETE_TCB"],
] as const;

/** Sockets by state number; those of numbers that have no name stand at 0. */
export type StateTally = number[];

export const emptyTally = (): StateTally => new Array<number>(stateNames.length + 1).fill(0);

export function addStates(tally: StateTally, view: DataView, row: TcpRow): void {
  const rows = view.getUint32(0, true);
  if (ROWS_AT + rows * row.bytes > view.byteLength)
    throw new Error(`a table of ${rows} TCP sockets does not fit into its ${view.byteLength} bytes`);
  for (let index = 0; index < rows; index += 1) {
    const state = view.getUint32(ROWS_AT + index * row.bytes + row.stateAt, true);
    const place = state <= stateNames.length ? state : 0;
    tally[place] = (tally[place] ?? 0) + 1;
  }
}

/** Every state, zeros included. */
export const statesOf = (tally: StateTally): Record<string, number> =>
  Object.fromEntries(stateNames.map((name, index) => [name, tally[index + 1] ?? 0]));

/** Sockets in a state that has no name here. */
export const unknownStates = (tally: StateTally): number => tally[0] ?? 0;

/** Writes a table, or how many bytes it needs into `size`, and returns the error number of Win32. */
export type FillTable = (buffer: Uint8Array, size: Uint32Array) => number;

export type TableBounds = {
  /** Room for what opens between two calls. */
  readonly slackBytes: number;
  readonly bytesMax: number;
  readonly roundsMax: number;
};

export type TableReader = (fill: FillTable) => { readonly code: number; readonly view: DataView };

const INSUFFICIENT_BUFFER = 122;

/**
 * Keeps its buffer from call to call, so that most calls are one; one that was made for many more sockets than there are
 * is let go. Gives up, with the code of the last call, when the table outgrows every buffer.
 */
export function createTableReader({ slackBytes, bytesMax, roundsMax }: TableBounds): TableReader {
  const size = new Uint32Array(1);
  let buffer = new Uint8Array(slackBytes);

  function fit(neededBytes: number): void {
    const wanted = Math.min(neededBytes + Math.max(slackBytes, neededBytes >> 3), bytesMax);
    if (neededBytes > buffer.length || buffer.length > 8 * wanted) buffer = new Uint8Array(wanted);
  }

  return (fill) => {
    let code = INSUFFICIENT_BUFFER;
    let filled = buffer;
    for (let round = 0; round < roundsMax && code === INSUFFICIENT_BUFFER; round += 1) {
      filled = buffer;
      size[0] = filled.length;
      code = fill(filled, size);
      const needed = size[0] ?? 0;
      if (code === INSUFFICIENT_BUFFER && needed > bytesMax) break;
      if (code === INSUFFICIENT_BUFFER || code === 0) fit(needed);
    }
    return { code, view: new DataView(filled.buffer) };
  };
}
