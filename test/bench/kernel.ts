// What the benchmark needs of the kernel beyond the appliance's own bindings: timed runs, run time statistics, one CPU.

import { dlopen, ptr } from "bun:ffi";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bindLibbpf, type Libbpf } from "../../bpf/libbpf.ts";
import { closeFd, LibcError } from "../../bpf/libc.ts";
import { loadLibraries } from "../../bpf/native.ts";
import { type KernelObject, openKernelObject } from "../../bpf/object.ts";

const root = join(import.meta.dir, "../..");
export const benchDirectory = join(root, "dist/bench");

function run(command: readonly string[]): void {
  const done = Bun.spawnSync([...command], { cwd: root, stdout: "inherit", stderr: "inherit" });
  if (done.exitCode !== 0) throw new Error(`failed (${done.exitCode}): ${command.join(" ")}`);
}

/** Compiles test/bench/<name>.bpf.c, as the appliance's own objects are. */
function compiledObject(name: string): Uint8Array {
  const machine = process.arch === "arm64" ? "arm64" : "x86";
  const headers = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const object = join(benchDirectory, `${name}.bpf.o`);
  mkdirSync(benchDirectory, { recursive: true });
  run([
    ...["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", `-D__TARGET_ARCH_${machine}`],
    ...["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function"],
    ...["-idirafter", `/usr/include/${headers}`, "-c", `test/bench/${name}.bpf.c`, "-o", object],
  ]);
  run(["llvm-strip", "-g", object]);
  return readFileSync(object);
}

/** Compiles test/bench/<name>.c to a program; returns its path. */
export function compiledProgram(name: string): string {
  const program = join(benchDirectory, name);
  mkdirSync(benchDirectory, { recursive: true });
  run(["clang", "-O2", "-Wall", "-Wextra", "-Werror", `test/bench/${name}.c`, "-o", program]);
  return program;
}

const definitions = {
  bpf_prog_test_run_opts: { args: ["i32", "buffer"], returns: "i32" },
  bpf_obj_get_info_by_fd: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  bpf_enable_stats: { args: ["u32"], returns: "i32" },
} as const;

export type RunTime = { readonly ns: number; readonly runs: number };

export type BenchKernel = {
  readonly libbpf: Libbpf;
  /** CPU time of this thread in nanoseconds: what neighbours take meanwhile is not in it. */
  threadNs(): number;
  /** Opens test/bench/<name>.bpf.c. */
  open(name: string): KernelObject;
  /** Sends `count` copies of a frame into the receive path of an interface of this namespace; returns nanoseconds each. */
  sendFrames(options: { programFd: number; frame: Uint8Array; ifindex: number; count: number }): number;
  /** Has the kernel time every program until disposal; also until this process dies. */
  timePrograms(): Disposable;
  runTime(programFd: number): RunTime;
  closeLink(link: number): void;
};

/** struct bpf_test_run_opts; the context is a struct xdp_md, whose fourth word is the interface. */
function liveFrameOptions(frame: Uint8Array, context: Uint8Array, count: number): Uint8Array {
  const BPF_F_TEST_XDP_LIVE_FRAMES = 2;
  const bytes = new Uint8Array(80);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 80n, true);
  view.setBigUint64(8, BigInt(ptr(frame) ?? 0), true);
  view.setUint32(24, frame.length, true);
  view.setBigUint64(32, BigInt(ptr(context) ?? 0), true);
  view.setUint32(48, context.length, true);
  view.setInt32(60, count, true);
  view.setUint32(68, BPF_F_TEST_XDP_LIVE_FRAMES, true);
  return bytes;
}

function frameContext(frame: Uint8Array, ifindex: number): Uint8Array {
  const words = new Uint32Array(6); // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
  words[1] = frame.length;
  words[3] = ifindex;
  return new Uint8Array(words.buffer);
}

const PROG_INFO_BYTES = 232;
const RUN_TIME_AT = 192; // struct bpf_prog_info: run_time_ns, then run_cnt
const RUN_COUNT_AT = 200;

export function openBenchKernel(): BenchKernel {
  const path = loadLibraries({ fallbackDirectory: join(benchDirectory, "lib") });
  const libbpf = bindLibbpf(path);
  const { symbols } = dlopen(path, definitions);
  const threadNs = createThreadClock();
  const checked = (result: number, what: string): number => {
    if (result < 0) throw new LibcError(what, -result);
    return result;
  };
  return {
    libbpf,
    threadNs,
    open: (name) => openKernelObject({ libbpf, name, bytes: compiledObject(name), mapEntries: {} }),
    sendFrames({ programFd, frame, ifindex, count }) {
      const context = frameContext(frame, ifindex);
      const options = liveFrameOptions(frame, context, count);
      const startNs = threadNs();
      checked(symbols.bpf_prog_test_run_opts(programFd, options), "run on live frames");
      const ns = (threadNs() - startNs) / count;
      return context.length + frame.length > 0 ? ns : Number.NaN; // Both must outlive the call.
    },
    timePrograms() {
      const BPF_STATS_RUN_TIME = 0;
      const fd = checked(symbols.bpf_enable_stats(BPF_STATS_RUN_TIME), "bpf_enable_stats");
      return { [Symbol.dispose]: () => closeFd(fd) };
    },
    closeLink: closeFd,
    runTime(programFd) {
      const info = new Uint8Array(PROG_INFO_BYTES);
      const length = new Uint8Array(new Uint32Array([info.length]).buffer);
      checked(symbols.bpf_obj_get_info_by_fd(programFd, info, length), "bpf_obj_get_info_by_fd");
      const view = new DataView(info.buffer);
      return {
        ns: Number(view.getBigUint64(RUN_TIME_AT, true)),
        runs: Number(view.getBigUint64(RUN_COUNT_AT, true)),
      };
    },
  };
}

function createThreadClock(): () => number {
  const CLOCK_THREAD_CPUTIME_ID = 3;
  const { symbols } = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "buffer"], returns: "i32" } });
  const time = new BigInt64Array(2); // seconds, nanoseconds
  return () => {
    if (symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, time) < 0) throw new Error("clock_gettime failed");
    return Number(time[0]) * 1e9 + Number(time[1]);
  };
}

const CPU_SET_BYTES = 128;

/** Keeps the calling thread on one CPU until disposal: the table has a shard a CPU. */
export function stayOnCpu(cpu: number): Disposable {
  const { symbols } = dlopen("libc.so.6", {
    sched_getaffinity: { args: ["i32", "u64", "buffer"], returns: "i32" },
    sched_setaffinity: { args: ["i32", "u64", "buffer"], returns: "i32" },
  });
  const before = new Uint8Array(CPU_SET_BYTES);
  const one = new Uint8Array(CPU_SET_BYTES);
  one[cpu >> 3] = 1 << (cpu & 7);
  if (symbols.sched_getaffinity(0, CPU_SET_BYTES, before) < 0) throw new Error("sched_getaffinity failed");
  if (symbols.sched_setaffinity(0, CPU_SET_BYTES, one) < 0) throw new Error(`no CPU ${cpu} for this process`);
  return { [Symbol.dispose]: () => void symbols.sched_setaffinity(0, CPU_SET_BYTES, before) };
}
