// Messages to the service manager: ready, reloading, stopping, status, watchdog. Sending is given by the caller.

type Env = Readonly<Record<string, string | undefined>>;

/** All of it does nothing when no service manager listens. */
export type Notifier = {
  /** Within this time a `watchdog` is expected; absent when the service manager does not watch. */
  readonly watchdogMs?: number;
  ready(status?: string): void;
  reloading(): void;
  stopping(): void;
  status(text: string): void;
  /** Says that the appliance still works; the tick calls it, so that a tick that hangs is noticed. */
  watchdog(): void;
};

const AF_UNIX = 1;
// sun_path of struct sockaddr_un.
const pathBytesMax = 108;

/**
 * The bytes of a struct sockaddr_un for NOTIFY_SOCKET: a path, or with a leading @ an abstract name, which begins with
 * a zero byte and has no end but the length.
 */
export function unixAddress(socket: string): Uint8Array {
  const abstract = socket.startsWith("@");
  const name = Buffer.from(abstract ? `\0${socket.slice(1)}` : `${socket}\0`);
  if (!abstract && !socket.startsWith("/"))
    throw new Error(`NOTIFY_SOCKET ${socket} is neither a path from the root nor an abstract name`);
  if (name.length > pathBytesMax)
    throw new Error(`NOTIFY_SOCKET ${socket} has more than the ${pathBytesMax} bytes of a socket address`);
  const address = new Uint8Array(2 + name.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true); // The byte order of both processors that we build for.
  address.set(name, 2);
  return address;
}

/** WATCHDOG_USEC in milliseconds, when it is meant for this process. */
export function watchdogMsOf(env: Env, pid: number): number | undefined {
  const { WATCHDOG_USEC: usec, WATCHDOG_PID: owner } = env;
  if (usec === undefined || !/^[1-9]\d{0,15}$/.test(usec)) return undefined;
  if (owner !== undefined && owner !== "" && owner !== String(pid)) return undefined;
  return Number(usec) / 1000;
}

// A line end would begin another assignment.
const oneLine = (text: string): string => text.replace(/[\r\n]+/g, " ").slice(0, 1024);

/** `monotonicUs` reads CLOCK_MONOTONIC, which services of type notify-reload must tell. */
export function createNotifier(options: {
  readonly env: Env;
  readonly pid: number;
  readonly send: (message: Uint8Array, address: Uint8Array) => void;
  readonly monotonicUs?: () => number;
  readonly failed: (error: unknown) => void;
}): Notifier {
  const { env, pid, send, monotonicUs, failed } = options;
  const { NOTIFY_SOCKET: socket = "" } = env;
  const tell = (...assignments: readonly string[]) => {
    if (socket === "") return;
    try {
      send(Buffer.from(assignments.join("\n")), unixAddress(socket));
    } catch (error) {
      failed(error); // A service manager that does not listen is no reason to stop observing.
    }
  };
  const watchdogMs = socket === "" ? undefined : watchdogMsOf(env, pid);
  return {
    ...(watchdogMs === undefined ? {} : { watchdogMs }),
    ready: (status) => tell("READY=1", ...(status === undefined ? [] : [`STATUS=${oneLine(status)}`])),
    reloading: () =>
      tell(
        "RELOADING=1",
        ...(monotonicUs === undefined ? [] : [`MONOTONIC_USEC=${Math.floor(monotonicUs())}`]),
      ),
    stopping: () => tell("STOPPING=1"),
    status: (text) => tell(`STATUS=${oneLine(text)}`),
    watchdog: () => {
      if (watchdogMs !== undefined) tell("WATCHDOG=1");
    },
  };
}
