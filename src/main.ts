// fovea: the platform, the streams and the signals of this process, handed to the command line.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { keyboardOf } from "./cli/keyboard.ts";
import { streamOutput } from "./cli/output.ts";
import { runProgram } from "./cli/program.ts";
import type { BackendAsked, Services, World } from "./cli/world.ts";
import type { Guard } from "./guard.ts";
import { errorText, writeStderr } from "./log.ts";
import type { ObservingConfig } from "./observing.ts";
import { createNotifier, type Notifier } from "./sd-notify.ts";
import type { Backend } from "./snapshot.ts";

// packaging/build.ts defines them; from source they are absent.
declare const FOVEA_VERSION: string;
declare const FOVEA_COMMIT: string;

const build: World["build"] = {
  version: typeof FOVEA_VERSION === "undefined" ? "0.0.0-source" : FOVEA_VERSION,
  commit: typeof FOVEA_COMMIT === "undefined" ? "" : FOVEA_COMMIT,
  bun: Bun.version,
  os: process.platform,
  arch: process.arch,
};

async function openLinux(config: ObservingConfig, { owner = "service" }: BackendAsked): Promise<Backend> {
  const { dataDir, interfaces, flows, drops, dns, sockets } = config;
  const { openLinuxBackend } = await import("../bpf/backend.ts");
  return openLinuxBackend({
    interfaces,
    owner,
    flows: {
      idleMs: flows.idle,
      activeMs: flows.active,
      flowsMax: flows.max,
      tableBytes: flows.tableBytes,
      spillBytes: flows.spillBytes,
    },
    dropsMax: drops.max,
    dnsEnabled: dns.enabled,
    sockets: {
      remotesMax: sockets.remotesMax,
      namespacesMax: sockets.namespacesMax,
      everyMs: sockets.every,
    },
    libraryDirectory: join(dataDir, "native"),
    now: Date.now,
  });
}

async function openWindows(config: ObservingConfig, { log }: BackendAsked): Promise<Backend> {
  const { dataDir, interfaces, windows } = config;
  const { openWindowsBackend } = await import("../windows/backend.ts");
  const { hnsEvery, hnsTimeout, endpointsMax, vfpEvery, vfpTimeout, pktmonEvery } = windows;
  return openWindowsBackend({
    interfaces,
    hns: { everyMs: hnsEvery, timeoutMs: hnsTimeout, endpointsMax },
    vfp: windows.vfp ? { everyMs: vfpEvery, timeoutMs: vfpTimeout } : undefined,
    pktmon: windows.pktmon ? { everyMs: pktmonEvery, timeoutMs: vfpTimeout } : undefined,
    stateDirectory: dataDir,
    log,
  });
}

function openBackend(config: ObservingConfig, asked: BackendAsked = {}): Promise<Backend> {
  if (process.platform === "linux") return openLinux(config, asked);
  if (process.platform === "win32") return openWindows(config, asked);
  throw new Error(`there is no backend for ${process.platform}; play a recording with run --replay FILE`);
}

async function openServices(): Promise<Services> {
  const { openFoveaService } = await import("../windows/service.ts");
  return openFoveaService({ version: build.version });
}

async function windowsGuard(): Promise<Guard> {
  const { openGuard } = await import("../windows/guard.ts");
  return openGuard();
}

async function shutdownSignal(): Promise<AbortSignal> {
  const { openShutdownSignal } = await import("../windows/console-control.ts");
  return openShutdownSignal();
}

/** Everywhere else the addon has all it needs. */
async function loadAddonLibraries(directory: string): Promise<void> {
  if (process.platform !== "linux") return;
  const native = await import("../bpf/native.ts");
  native.loadAddonLibraries({ fallbackDirectory: directory });
}

/** Opens the socket with the first message: most processes have nobody to tell. */
async function openNotifier(): Promise<Notifier> {
  const listens = process.platform === "linux" && (process.env["NOTIFY_SOCKET"] ?? "") !== "";
  const send = listens ? await unixSender() : () => undefined;
  const failed = (error: unknown) =>
    writeStderr(`fovea: the service manager cannot be told: ${errorText(error)}\n`);
  return createNotifier({ env: process.env, pid: process.pid, send, failed });
}

async function unixSender(): Promise<(message: Uint8Array, address: Uint8Array) => void> {
  const AF_UNIX = 1;
  const SOCK_DGRAM = 2;
  const { openSocket, sendBytesTo } = await import("../bpf/libc.ts");
  let fd: number | undefined;
  return (message, address) => {
    fd ??= openSocket(AF_UNIX, SOCK_DGRAM, 0).fd; // For the life of the process.
    sendBytesTo(fd, message, address);
  };
}

/** Whether who started this process wants it to outlive its terminal, as nohup does. */
function isHangupIgnored(): boolean {
  if (process.platform !== "linux") return false;
  const [, ignored = "0"] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return (BigInt(`0x${ignored}`) & 1n) !== 0n; // SIGHUP is the first signal.
}

/** Aborts with the first signal; a second one ends the process at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  // Windows has SIGINT (Ctrl+C), SIGBREAK (Ctrl+Break) and SIGHUP (the console is closed).
  const hangup = isHangupIgnored() ? [] : (["SIGHUP"] as const);
  for (const name of ["SIGTERM", "SIGINT", ...hangup, "SIGBREAK"] as const)
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(1);
      controller.abort(new Error(`stopped by ${name}`));
    });
  return controller.signal;
}

/** A mistake of ours: one line, with the place that a report of it needs. */
function crash(error: unknown): never {
  const place =
    error instanceof Error ? (error.stack?.split("\n").find((line) => line.includes(" at ")) ?? "") : "";
  try {
    writeStderr(`fovea: internal error: ${errorText(error)} (${place.trim()})\n`);
  } finally {
    process.exit(1); // Also where there is no stderr.
  }
}

process.on("uncaughtException", crash);
process.on("unhandledRejection", crash);

const code = await runProgram(process.argv.slice(2), {
  out: streamOutput(process.stdout, process.env),
  err: streamOutput(process.stderr, process.env),
  env: process.env,
  build,
  stop: stopSignal(),
  openBackend,
  loadAddonLibraries,
  notifier: await openNotifier(),
  ...(process.platform === "win32" ? { openServices, shutdownSignal, guard: await windowsGuard() } : {}),
  ...(process.stdin.isTTY ? { keyboard: keyboardOf(process.stdin) } : {}),
});
process.exit(code);
