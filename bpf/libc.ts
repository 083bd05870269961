// The only file that binds libc: memory files, mappings, sockets, namespaces, each return code checked.

import { dlopen, type Pointer, ptr, read, toArrayBuffer } from "bun:ffi";

const symbols = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: "ptr" },
  strerror: { args: ["i32"], returns: "cstring" },
  memfd_create: { args: ["buffer", "u32"], returns: "i32" },
  open: { args: ["buffer", "i32", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  write: { args: ["i32", "buffer", "u64"], returns: "i64" },
  mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: "ptr" },
  munmap: { args: ["ptr", "u64"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "buffer", "u32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  send: { args: ["i32", "buffer", "u64", "i32"], returns: "i64" },
  recv: { args: ["i32", "buffer", "u64", "i32"], returns: "i64" },
  sendto: { args: ["i32", "buffer", "u64", "i32", "buffer", "u32"], returns: "i64" },
  ioctl: { args: ["i32", "u64", "buffer"], returns: "i32" },
  setns: { args: ["i32", "i32"], returns: "i32" },
  sysconf: { args: ["i32"], returns: "i64" },
}).symbols;

/** A failed call, with the errno that it left. */
export class LibcError extends Error {
  readonly errno: number;
  constructor(what: string, errno: number) {
    super(`${what}: ${symbols.strerror(errno)} (errno ${errno})`);
    this.errno = errno;
  }
}

const EAGAIN = 11;
const EINTR = 4;
export const EINVAL = 22;

/** errno of the calling thread; read it at once, before any other call. */
export function errno(): number {
  const location = symbols.__errno_location();
  return location === null ? 0 : read.i32(location as Pointer, 0);
}

function checked(result: number, what: string): number {
  if (result < 0) throw new LibcError(what, errno());
  return result;
}

// Pass the array itself, never ptr() of it: the call keeps the array alive, a bare address does not.
export const cString = (text: string): Uint8Array => Buffer.from(`${text}\0`);

export const closeFd = (fd: number): void => {
  symbols.close(fd);
};

function createMemoryFile(name: string): number {
  const MFD_CLOEXEC = 1;
  const MFD_EXEC = 0x10; // Asked for since Linux 6.3, where vm.memfd_noexec may change the default; unknown before.
  const what = `memfd_create ${name}`;
  const fd = symbols.memfd_create(cString(name), MFD_CLOEXEC | MFD_EXEC);
  if (fd >= 0) return fd;
  const code = errno();
  if (code !== EINVAL) throw new LibcError(what, code);
  return checked(symbols.memfd_create(cString(name), MFD_CLOEXEC), what);
}

/** A file that lives in memory alone; /tmp and /run are often mounted noexec. Returns its descriptor. */
export function memoryFile(name: string, content: Uint8Array): number {
  const fd = createMemoryFile(name);
  let at = 0;
  while (at < content.length) {
    const rest = content.subarray(at);
    const written = Number(symbols.write(fd, rest, rest.length));
    if (written <= 0) {
      const failure = new LibcError(`write ${name} to memory file`, errno());
      closeFd(fd);
      throw failure;
    }
    at += written;
  }
  return fd;
}

export type Mapping = Disposable & { readonly buffer: ArrayBuffer };

/** Maps `length` bytes of a descriptor, shared. `offset` is a multiple of the page size. */
export function mapMemory(fd: number, length: number, options: { write: boolean; offset?: number }): Mapping {
  const PROT_READ = 1;
  const PROT_WRITE = 2;
  const MAP_SHARED = 1;
  const protection = PROT_READ | (options.write ? PROT_WRITE : 0);
  const address = symbols.mmap(null, length, protection, MAP_SHARED, fd, options.offset ?? 0);
  if (address === null || Number(address) === -1 || Number(address) >= 2 ** 63)
    throw new LibcError(`mmap ${length} bytes`, errno());
  return {
    buffer: toArrayBuffer(address as Pointer, 0, length),
    [Symbol.dispose]: () => void symbols.munmap(address as Pointer, length),
  };
}

export type Socket = Disposable & { readonly fd: number };

export function openSocket(family: number, type: number, protocol: number): Socket {
  const SOCK_CLOEXEC = 0o2000000;
  const fd = checked(
    symbols.socket(family, type | SOCK_CLOEXEC, protocol),
    `socket(${family}, ${type}, ${protocol})`,
  );
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}

export function bindSocket(fd: number, address: Uint8Array): void {
  checked(symbols.bind(fd, address, address.length), "bind");
}

export function setSocketOption(fd: number, level: number, name: number, value: number): void {
  const bytes = new Uint8Array(new Int32Array([value]).buffer);
  checked(symbols.setsockopt(fd, level, name, bytes, bytes.length), `setsockopt(${level}, ${name})`);
}

export function sendBytes(fd: number, bytes: Uint8Array): void {
  checked(Number(symbols.send(fd, bytes, bytes.length, 0)), "send");
}

/** Sends to a socket address given as its C bytes; does not wait. */
export function sendBytesTo(fd: number, bytes: Uint8Array, address: Uint8Array): void {
  const MSG_DONTWAIT = 0x40;
  const MSG_NOSIGNAL = 0x4000;
  checked(
    Number(symbols.sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length)),
    "sendto",
  );
}

/** Bytes received into `into`, or undefined when nothing waits and `wait` is false. */
export function receiveBytes(fd: number, into: Uint8Array, wait: boolean): number | undefined {
  const MSG_DONTWAIT = 0x40;
  for (;;) {
    const got = Number(symbols.recv(fd, into, into.length, wait ? 0 : MSG_DONTWAIT));
    if (got >= 0) return got;
    const code = errno();
    if (code === EINTR) continue;
    if (code === EAGAIN && !wait) return undefined;
    throw new LibcError("recv", code);
  }
}

/** ioctl with a structure that the kernel reads and fills. */
export function ioctl(fd: number, request: number, argument: Uint8Array): void {
  checked(symbols.ioctl(fd, request, argument), `ioctl 0x${request.toString(16)}`);
}

/**
 * ioctl with a structure that holds the address of a buffer at `pointerAt`; the kernel reads and fills that buffer.
 * Callers hold on to it themselves: it must outlive this call, and does when they read it afterwards.
 */
export function ioctlThrough(
  fd: number,
  request: number,
  { argument, pointerAt, buffer }: { argument: Uint8Array; pointerAt: number; buffer: Uint8Array },
): void {
  new DataView(argument.buffer, argument.byteOffset).setBigUint64(pointerAt, BigInt(ptr(buffer)), true);
  ioctl(fd, request, argument);
}

export function openFile(path: string): Socket {
  const O_RDONLY_CLOEXEC = 0o2000000;
  const fd = checked(symbols.open(cString(path), O_RDONLY_CLOEXEC, 0), `open ${path}`);
  return { fd, [Symbol.dispose]: () => closeFd(fd) };
}

/** Moves the calling thread alone into a network namespace; needs CAP_SYS_ADMIN. */
export function enterNetworkNamespace(fd: number): void {
  const CLONE_NEWNET = 0x40000000;
  checked(symbols.setns(fd, CLONE_NEWNET), "setns");
}

export function pageSize(): number {
  const _SC_PAGESIZE = 30;
  return Number(symbols.sysconf(_SC_PAGESIZE));
}

/**
 * Loads a shared library for the life of the process, so that libraries loaded after it find it by its SONAME.
 * The error carries the loader's own words.
 */
export function loadLibrary(path: string): void {
  const RTLD_NOW = 2;
  const declarations = {
    dlopen: { args: ["buffer", "i32"], returns: "ptr" },
    dlerror: { args: [], returns: "cstring" },
  } as const;
  const loader = dlopen("libc.so.6", declarations).symbols; // The loader's functions stand in libc since glibc 2.34.
  if (loader.dlopen(cString(path), RTLD_NOW) === null) throw new Error(`dlopen ${path}: ${loader.dlerror()}`);
}
