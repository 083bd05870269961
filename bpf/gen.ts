// Turns the BTF of the contract object into contract.gen.ts: `bun bpf/gen.ts OBJECT > bpf/contract.gen.ts`.

type Member = { name: string; type_id: number; bits_offset: number };
type BtfType = {
  id: number;
  kind: string;
  name: string;
  size?: number;
  type_id?: number;
  nr_elems?: number;
  members?: Member[];
  values?: { name: string; val: number }[];
};

const camel = (name: string): string =>
  name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** Size of a type in bytes, followed through typedefs and qualifiers. */
function sizeOf(types: ReadonlyMap<number, BtfType>, id: number): number {
  const type = types.get(id);
  if (type === undefined) throw new Error(`BTF: no type ${id}`);
  if (type.kind === "ARRAY") return (type.nr_elems ?? 0) * sizeOf(types, type.type_id ?? 0);
  if (type.kind === "PTR") throw new Error("BTF: a pointer in the contract");
  if (type.size !== undefined) return type.size;
  return sizeOf(types, type.type_id ?? 0);
}

/** Refuses holes: keys are compared and records copied with their padding. */
function checkLayout(types: ReadonlyMap<number, BtfType>, type: BtfType): void {
  let at = 0;
  for (const member of type.members ?? []) {
    if (member.bits_offset !== at * 8)
      throw new Error(
        `BTF: ${type.name} has an implicit hole of ${member.bits_offset / 8 - at} bytes before ${member.name}`,
      );
    at += sizeOf(types, member.type_id);
  }
  if (at !== type.size) throw new Error(`BTF: ${type.name} has an implicit hole at its end`);
}

function structText(types: ReadonlyMap<number, BtfType>, type: BtfType): string {
  checkLayout(types, type);
  const members = (type.members ?? []).filter(({ name }) => !name.startsWith("_pad"));
  const offsets = members.map(({ name, bits_offset }) => `  ${camel(name)}: ${bits_offset / 8},`);
  return [
    `/** Size and member offsets in bytes. */`,
    `export const ${camel(type.name)} = {`,
    `  size: ${type.size},`,
    ...offsets,
    "} as const;",
  ].join("\n");
}

/** Enum members lose the prefix that C needs: HOOK_INGRESS of enum hook becomes INGRESS. */
function enumText(type: BtfType): string {
  const prefix = `${type.name.toUpperCase()}_`;
  const values = (type.values ?? []).map(
    ({ name, val }) => `  ${name.startsWith(prefix) ? name.slice(prefix.length) : name}: ${val},`,
  );
  return [`export const ${camel(type.name)} = {`, ...values, "} as const;"].join("\n");
}

/** `dump` is the output of `bpftool btf dump -j file OBJECT`. */
export function generate(dump: { types: BtfType[] }): string {
  const types = new Map(dump.types.map((type) => [type.id, type]));
  const wanted = dump.types.filter(
    ({ kind, name }) => (kind === "STRUCT" || kind === "ENUM") && name !== "(anon)",
  );
  const texts = wanted
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((type) => (type.kind === "ENUM" ? enumText(type) : structText(types, type)));
  return `${["// Made by `npm run gen` from bpf/contract.h. Do not edit.", ...texts].join("\n\n")}\n`;
}

if (import.meta.main) {
  const object = process.argv[2];
  if (object === undefined) throw new Error("usage: bun bpf/gen.ts OBJECT");
  const { stdout } = Bun.spawnSync(["bpftool", "btf", "dump", "-j", "file", object], { stderr: "inherit" });
  process.stdout.write(generate(JSON.parse(stdout.toString())));
}
