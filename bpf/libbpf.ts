// The only file that binds libbpf: typed handles, every return code checked, structures laid out by hand once.

import { type CString, dlopen, type Pointer, ptr, read, toArrayBuffer } from "bun:ffi";
import { cString, errno, LibcError } from "./libc.ts";

declare const handle: unique symbol;
export type BpfObject = Pointer & { readonly [handle]: "bpf_object" };
export type BpfMap = Pointer & { readonly [handle]: "bpf_map" };
export type BpfProgram = Pointer & { readonly [handle]: "bpf_program" };
export type BpfLink = Pointer & { readonly [handle]: "bpf_link" };
export type Btf = Pointer & { readonly [handle]: "btf" };

const definitions = {
  libbpf_set_print: { args: ["ptr"], returns: "ptr" },
  bpf_object__open_mem: { args: ["buffer", "u64", "buffer"], returns: "ptr" },
  bpf_object__load: { args: ["ptr"], returns: "i32" },
  bpf_object__close: { args: ["ptr"], returns: "void" },
  bpf_object__find_program_by_name: { args: ["ptr", "buffer"], returns: "ptr" },
  bpf_object__find_map_by_name: { args: ["ptr", "buffer"], returns: "ptr" },
  bpf_program__set_autoload: { args: ["ptr", "bool"], returns: "i32" },
  bpf_program__attach: { args: ["ptr"], returns: "ptr" },
  bpf_program__fd: { args: ["ptr"], returns: "i32" },
  bpf_link__destroy: { args: ["ptr"], returns: "i32" },
  bpf_map__fd: { args: ["ptr"], returns: "i32" },
  bpf_map__key_size: { args: ["ptr"], returns: "u32" },
  bpf_map__value_size: { args: ["ptr"], returns: "u32" },
  bpf_map__set_max_entries: { args: ["ptr", "u32"], returns: "i32" },
  bpf_map__set_initial_value: { args: ["ptr", "buffer", "u64"], returns: "i32" },
  bpf_map_update_elem: { args: ["i32", "buffer", "buffer", "u64"], returns: "i32" },
  bpf_link_create: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  bpf_link_update: { args: ["i32", "i32", "ptr"], returns: "i32" },
  bpf_tc_hook_create: { args: ["buffer"], returns: "i32" },
  bpf_tc_hook_destroy: { args: ["buffer"], returns: "i32" },
  bpf_tc_attach: { args: ["buffer", "buffer"], returns: "i32" },
  bpf_tc_detach: { args: ["buffer", "buffer"], returns: "i32" },
  bpf_tc_query: { args: ["buffer", "buffer"], returns: "i32" },
  bpf_prog_test_run_opts: { args: ["i32", "buffer"], returns: "i32" },
  bpf_obj_get_info_by_fd: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  btf__load_vmlinux_btf: { args: [], returns: "ptr" },
  btf__load_module_btf: { args: ["buffer", "ptr"], returns: "ptr" },
  btf__find_by_name_kind: { args: ["ptr", "buffer", "u32"], returns: "i32" },
  btf__type_by_id: { args: ["ptr", "u32"], returns: "ptr" },
  btf__name_by_offset: { args: ["ptr", "u32"], returns: "cstring" },
  btf__free: { args: ["ptr"], returns: "void" },
} as const;

const LOG_BYTES = 256 * 1024;
const BTF_KIND_ENUM = 6;

/** Below zero is a negative errno; libbpf 1.x also leaves errno, as a NULL return does. */
function checked(result: number, what: string): number {
  if (result < 0) throw new LibcError(what, -result);
  return result;
}

function owned<T>(pointer: bigint | Pointer | null, what: string): T {
  if (pointer === null) throw new LibcError(what, errno());
  return pointer as T;
}

/** The last lines of a verifier log: what went wrong stands at its end. */
function logTail(log: Uint8Array): string {
  const end = log.indexOf(0);
  const text = Buffer.from(log.subarray(0, end < 0 ? log.length : end)).toString("latin1");
  return text.trimEnd().split("\n").slice(-4).join(" | ");
}

/** struct bpf_object_open_opts of libbpf 1.x. */
function openOptions(name: Uint8Array, log: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(80);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setBigUint64(8, BigInt(ptr(name) ?? 0), true);
  view.setBigUint64(56, BigInt(ptr(log) ?? 0), true);
  view.setBigUint64(64, BigInt(log.length), true);
  return bytes;
}

export type TcHook = { readonly ifindex: number; readonly attachPoint: 1 | 2 };
export type TcFilter = { readonly handle: number; readonly priority: number };

/** struct bpf_tc_hook; attach point 1 is ingress, 2 egress. */
function tcHook(hook: TcHook, attachPoint: number = hook.attachPoint): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 24n, true);
  view.setInt32(8, hook.ifindex, true);
  view.setInt32(12, attachPoint, true);
  return bytes;
}

/** struct bpf_link_create_opts. */
function linkOptions(flags: number): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setUint32(8, flags, true);
  return bytes;
}

/** struct bpf_tc_opts. */
function tcOptions(filter: TcFilter, fd: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 32n, true);
  view.setInt32(8, fd, true);
  view.setUint32(12, flags, true);
  view.setUint32(20, filter.handle, true);
  view.setUint32(24, filter.priority, true);
  return bytes;
}

/** What a call wrote into struct bpf_tc_opts. */
const programIdOf = (options: Uint8Array): number => new DataView(options.buffer).getUint32(16, true);

/** struct bpf_test_run_opts. */
function testRunOptions(packet: Uint8Array, repeat: number): Uint8Array {
  const bytes = new Uint8Array(80);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 80n, true);
  if (packet.length > 0) view.setBigUint64(8, BigInt(ptr(packet) ?? 0), true);
  view.setUint32(24, packet.length, true);
  view.setInt32(60, repeat, true);
  return bytes;
}

export type Libbpf = ReturnType<typeof bindLibbpf>;

/** Binds the library at `path`. */
export function bindLibbpf(path: string) {
  const symbols = dlopen(path, definitions).symbols;
  symbols.libbpf_set_print(null); // Messages go into our errors, not to stderr.
  return { ...bindObjects(symbols), ...bindAttaching(symbols), ...bindRunning(symbols), ...bindBtf(symbols) };
}

type Symbols = ReturnType<typeof dlopen<typeof definitions>>["symbols"];

const bindObjects = (symbols: Symbols) => ({
  /** Parses an object. The returned log is filled by `loadObject` when the verifier refuses. */
  openObject(name: string, bytes: Uint8Array): { object: BpfObject; log: Uint8Array } {
    const log = new Uint8Array(LOG_BYTES);
    const nameBytes = cString(name);
    const options = openOptions(nameBytes, log);
    const pointer = symbols.bpf_object__open_mem(bytes, bytes.length, options);
    return { object: owned<BpfObject>(pointer, `bpf_object__open_mem ${name}`), log };
  },
  loadObject(object: BpfObject, log: Uint8Array, name: string): void {
    const result = symbols.bpf_object__load(object);
    if (result >= 0) return;
    const tail = logTail(log);
    throw new LibcError(`load eBPF object ${name}${tail === "" ? "" : ` (verifier: ${tail})`}`, -result);
  },
  closeObject: (object: BpfObject): void => void symbols.bpf_object__close(object),
  findProgram: (object: BpfObject, name: string): BpfProgram =>
    owned<BpfProgram>(
      symbols.bpf_object__find_program_by_name(object, cString(name)),
      `find program ${name}`,
    ),
  findMap: (object: BpfObject, name: string): BpfMap =>
    owned<BpfMap>(symbols.bpf_object__find_map_by_name(object, cString(name)), `find map ${name}`),
  skipProgram: (program: BpfProgram): void =>
    void checked(symbols.bpf_program__set_autoload(program, false), "bpf_program__set_autoload"),
  programFd: (program: BpfProgram): number => checked(symbols.bpf_program__fd(program), "bpf_program__fd"),
  mapFd: (map: BpfMap): number => checked(symbols.bpf_map__fd(map), "bpf_map__fd"),
  mapSizes: (map: BpfMap): { key: number; value: number } => ({
    key: symbols.bpf_map__key_size(map),
    value: symbols.bpf_map__value_size(map),
  }),
  setMaxEntries: (map: BpfMap, entries: number): void =>
    void checked(symbols.bpf_map__set_max_entries(map, entries), `bpf_map__set_max_entries ${entries}`),
  setInitialValue: (map: BpfMap, value: Uint8Array): void =>
    void checked(symbols.bpf_map__set_initial_value(map, value, value.length), "bpf_map__set_initial_value"),
  updateElement: (fd: number, key: Uint8Array, value: Uint8Array): void =>
    void checked(symbols.bpf_map_update_elem(fd, key, value, 0), "bpf_map_update_elem"),
});

const EEXIST = 17;

const bindAttaching = (symbols: Symbols) => ({
  attach: (program: BpfProgram, name: string): BpfLink =>
    owned<BpfLink>(symbols.bpf_program__attach(program), `attach ${name}`),
  detach: (link: BpfLink): void => void symbols.bpf_link__destroy(link),
  /**
   * A link of a program to an interface, as a descriptor: closing it detaches. `type` is an enum bpf_attach_type,
   * `flags` say where among the programs of others.
   */
  createLink(programFd: number, ifindex: number, type: number, flags = 0): number {
    const options = flags === 0 ? null : linkOptions(flags);
    return checked(
      symbols.bpf_link_create(programFd, ifindex, type, options),
      `bpf_link_create on interface ${ifindex}`,
    );
  },
  /** Index of the interface that a tcx link is on (struct bpf_link_info); 0 when it was detached by force. */
  linkInterface(linkFd: number): number {
    const info = new Uint8Array(64);
    const length = new Uint8Array(new Uint32Array([info.length]).buffer);
    checked(symbols.bpf_obj_get_info_by_fd(linkFd, info, length), "bpf_obj_get_info_by_fd of a tcx link");
    return new DataView(info.buffer).getUint32(16, true);
  },
  updateLink: (linkFd: number, programFd: number): void =>
    void checked(symbols.bpf_link_update(linkFd, programFd, null), "bpf_link_update"),
  /** True when the clsact qdisc was made by this call, false when it, or an ingress qdisc, was there. */
  createTcHook(hook: TcHook): boolean {
    const result = symbols.bpf_tc_hook_create(tcHook(hook));
    if (result === -EEXIST) return false;
    checked(result, `create clsact on interface ${hook.ifindex}`);
    return true;
  },
  /** Removes the clsact qdisc with all that hangs on it. */
  destroyTcHook: (ifindex: number): void =>
    void checked(
      symbols.bpf_tc_hook_destroy(tcHook({ ifindex, attachPoint: 1 }, 3)),
      `destroy clsact on interface ${ifindex}`,
    ),
  /** Attaches, or replaces the filter that has this handle and priority. Returns the program's number. */
  attachTc(hook: TcHook, filter: TcFilter, what: { programFd: number; replace: boolean }): number {
    const BPF_TC_F_REPLACE = 1;
    const options = tcOptions(filter, what.programFd, what.replace ? BPF_TC_F_REPLACE : 0);
    checked(symbols.bpf_tc_attach(tcHook(hook), options), `attach tc filter on interface ${hook.ifindex}`);
    return programIdOf(options);
  },
  detachTc: (hook: TcHook, filter: TcFilter): void =>
    void checked(symbols.bpf_tc_detach(tcHook(hook), tcOptions(filter, 0, 0)), "detach tc filter"),
  /** Number of the program of the filter with this handle and priority; undefined when there is no such filter. */
  tcProgramId(hook: TcHook, filter: TcFilter): number | undefined {
    const options = tcOptions(filter, 0, 0);
    return symbols.bpf_tc_query(tcHook(hook), options) === 0 ? programIdOf(options) : undefined;
  },
});

const bindRunning = (symbols: Symbols) => ({
  /** Runs a program on a packet of its own, or on none; returns the mean duration of a run in nanoseconds. */
  testRun(programFd: number, packet: Uint8Array, repeat: number): number {
    const options = testRunOptions(packet, repeat);
    checked(symbols.bpf_prog_test_run_opts(programFd, options), "bpf_prog_test_run_opts");
    return new DataView(options.buffer).getUint32(64, true);
  },
  /** How often a program was not run because it was already running on that CPU (struct bpf_prog_info). */
  recursionMisses(programFd: number): number {
    const info = new Uint8Array(232);
    const length = new Uint8Array(new Uint32Array([info.length]).buffer);
    checked(symbols.bpf_obj_get_info_by_fd(programFd, info, length), "bpf_obj_get_info_by_fd");
    return Number(new DataView(info.buffer).getBigUint64(208, true));
  },
});

const bindBtf = (symbols: Symbols) => ({
  vmlinuxBtf: (): Btf => owned<Btf>(symbols.btf__load_vmlinux_btf(), "read /sys/kernel/btf/vmlinux"),
  moduleBtf: (module: string, base: Btf): Btf =>
    owned<Btf>(symbols.btf__load_module_btf(cString(module), base), `read /sys/kernel/btf/${module}`),
  freeBtf: (btf: Btf): void => void symbols.btf__free(btf),
  /** Members of an enum by name, or undefined when this BTF has none of that name. */
  enumMembers(btf: Btf, name: string): { name: string; value: number }[] | undefined {
    const id = symbols.btf__find_by_name_kind(btf, cString(name), BTF_KIND_ENUM);
    if (id < 0) return undefined;
    const type = owned<Pointer>(symbols.btf__type_by_id(btf, id), `BTF type ${id}`);
    // struct btf_type: name_off, info (vlen in the low 16 bits), size; then vlen times name_off, val.
    const count = read.u32(type, 4) & 0xffff;
    const members = new DataView(toArrayBuffer(type, 12, count * 8).slice(0));
    return Array.from({ length: count }, (_, i) => ({
      name: String(symbols.btf__name_by_offset(btf, members.getUint32(i * 8, true)) as CString),
      value: members.getInt32(i * 8 + 4, true),
    }));
  },
});
