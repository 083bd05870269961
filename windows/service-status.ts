// SERVICE_STATUS: the states of a service, what its process reports to the service manager, and what that says of it.

const serviceStates = {
  stopped: 1,
  "start-pending": 2,
  "stop-pending": 3,
  running: 4,
  "continue-pending": 5,
  "pause-pending": 6,
  paused: 7,
} as const;

export type ServiceState = keyof typeof serviceStates;

const names = new Map<number, ServiceState>(
  Object.entries(serviceStates).map(([name, number]) => [number, name as ServiceState]),
);

export const stateOf = (number: number): ServiceState | undefined => names.get(number);

export const controls = { stop: 1, interrogate: 4, shutdown: 5, preshutdown: 0xf } as const;

const OWN_PROCESS = 0x10;
const ACCEPT_STOP = 0x1;
const ACCEPT_SHUTDOWN = 0x4;
const ACCEPT_PRESHUTDOWN = 0x100;
// Says that the exit code is in the member for codes of the service's own.
const SERVICE_SPECIFIC_ERROR = 1066;
// Since Windows was started: no failure.
const NEVER_STARTED = 1077;

export type Report = {
  readonly state: ServiceState;
  /** Zero: what was to be done is done. Else the service's own number. */
  readonly exitCode?: number;
  /** Grows with each report of a state that is pending: the service is at work and does not hang. */
  readonly checkpoint?: number;
  /** Within this time the next report is due. */
  readonly waitHintMs?: number;
};

/** While it is pending, a service takes no control: one that starts is stopped when it runs. */
export function statusWords({ state, exitCode = 0, checkpoint = 0, waitHintMs = 0 }: Report): Uint32Array {
  const accepts = state === "running" ? ACCEPT_STOP | ACCEPT_SHUTDOWN | ACCEPT_PRESHUTDOWN : 0;
  const code = exitCode === 0 ? 0 : SERVICE_SPECIFIC_ERROR;
  return new Uint32Array([
    ...[OWN_PROCESS, serviceStates[state], accepts],
    ...[code, exitCode, checkpoint, waitHintMs],
  ]);
}

/** Of the last end of a service: its own number, or one of Win32. */
export function exitCodeOf(code: number, specific: number): number {
  if (code === SERVICE_SPECIFIC_ERROR) return specific;
  return code === NEVER_STARTED ? 0 : code;
}
