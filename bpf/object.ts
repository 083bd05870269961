// Opens an eBPF object: settings, map sizes, load, layout check. Disposing undoes all.

import { settings as settingsLayout } from "./contract.gen.ts";
import type { BpfProgram, Libbpf } from "./libbpf.ts";
import { type Mapping, mapMemory, pageSize } from "./libc.ts";

export type Settings = {
  /** Five, odd. */
  readonly hashKeys: readonly bigint[];
  readonly shards: number;
  readonly setsLog2: number;
  readonly cpus: number;
  readonly dnsEnabled: boolean;
  /** Inode number of the network namespace that our thread is in. */
  readonly networkNamespace: number;
};

export type KernelObject = Disposable & {
  readonly name: string;
  programFd(program: string): number;
  mapFd(map: string): number;
  /** Value size of an array map times `entries`, mapped into this process. */
  mapArray(map: string, entries: number, valueBytes: number, write: boolean): Mapping;
  /** Attaches a tracing program until disposal. */
  attach(program: string): void;
};

function settingsBytes(settings: Settings): Uint8Array {
  const bytes = new Uint8Array(settingsLayout.size);
  const view = new DataView(bytes.buffer);
  settings.hashKeys.forEach((key, i) => {
    view.setBigUint64(settingsLayout.hashKeys + i * 8, key, true);
  });
  view.setUint32(settingsLayout.shards, settings.shards, true);
  view.setUint32(settingsLayout.setsLog2, settings.setsLog2, true);
  view.setUint32(settingsLayout.cpus, settings.cpus, true);
  view.setUint32(settingsLayout.dnsEnabled, settings.dnsEnabled ? 1 : 0, true);
  view.setUint32(settingsLayout.networkNamespace, settings.networkNamespace, true);
  return bytes;
}

/** The kernel rounds the size of an array's values up to 8 and of its mapping up to a page. */
function mappedLength(entries: number, valueBytes: number): number {
  const page = pageSize();
  return Math.ceil((entries * Math.ceil(valueBytes / 8) * 8) / page) * page;
}

export function openKernelObject(options: {
  libbpf: Libbpf;
  name: string;
  bytes: Uint8Array;
  settings?: Settings;
  mapEntries: Readonly<Record<string, number>>;
  /** Programs of the object that shall not be loaded. */
  skip?: readonly string[];
}): KernelObject {
  const { libbpf, name } = options;
  using undo = new DisposableStack();
  const { object, log } = libbpf.openObject(name, options.bytes);
  undo.adopt(object, libbpf.closeObject);
  if (options.settings !== undefined)
    libbpf.setInitialValue(libbpf.findMap(object, ".rodata.settings"), settingsBytes(options.settings));
  for (const [map, entries] of Object.entries(options.mapEntries))
    libbpf.setMaxEntries(libbpf.findMap(object, map), entries);
  for (const program of options.skip ?? []) libbpf.skipProgram(libbpf.findProgram(object, program));
  libbpf.loadObject(object, log, name);
  const programs = new Map<string, BpfProgram>();
  const find = (program: string): BpfProgram => {
    const known = programs.get(program) ?? libbpf.findProgram(object, program);
    programs.set(program, known);
    return known;
  };
  const owned = undo.move();
  return {
    name,
    programFd: (program) => libbpf.programFd(find(program)),
    mapFd: (map) => libbpf.mapFd(libbpf.findMap(object, map)),
    mapArray(map, entries, valueBytes, write) {
      const found = libbpf.findMap(object, map);
      const sizes = libbpf.mapSizes(found);
      if (sizes.value !== valueBytes)
        throw new Error(
          `map ${map} of ${name} has values of ${sizes.value} bytes, the contract says ${valueBytes}`,
        );
      const fd = libbpf.mapFd(found);
      return owned.use(mapMemory(fd, mappedLength(entries, valueBytes), { write }));
    },
    attach: (program) => void owned.adopt(libbpf.attach(find(program), program), libbpf.detach),
    [Symbol.dispose]: () => owned.dispose(),
  };
}
