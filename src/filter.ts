// The filter: which flow records the rules let pass.

import type { FilterRule, FilterRules } from "./filter-rules.ts";
import { type FlowRecord, protocolNames } from "./flow.ts";
import { type AddressRange, parseAddress, parseRange, type StoredAddress } from "./store/address.ts";

/** Why a record is filtered: include rules stand and none matches, or an exclude rule matches. */
export type FilterReason = "not_included" | "excluded";

/** Undefined when the record passes. */
export type Filter = (record: FlowRecord) => FilterReason | undefined;

/** Both ends of a record, parsed once for all rules. Undefined: not parsed, as no rule asks, or no address. */
type Ends = { source: StoredAddress | undefined; destination: StoredAddress | undefined };

type Test = (record: FlowRecord, ends: Readonly<Ends>) => boolean;

const TCP = 6;
const UDP = 17;
const DNS_PORT = 53;

const compare = (a: StoredAddress, b: StoredAddress): number =>
  typeof a === "number" || typeof b === "number" ? Number(a) - Number(b) : Buffer.compare(a, b);

/** Sorted, and without overlap: two networks either hold one another or have nothing in common. */
function outermost(ranges: readonly AddressRange[]): readonly AddressRange[] {
  const sorted = ranges.toSorted((a, b) => compare(a.low, b.low) || compare(b.high, a.high));
  const kept: AddressRange[] = [];
  for (const range of sorted) {
    const last = kept.at(-1);
    if (last === undefined || compare(range.low, last.high) > 0) kept.push(range);
  }
  return kept;
}

function within(ranges: readonly AddressRange[], address: StoredAddress): boolean {
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const range = ranges[middle];
    if (range === undefined) return false;
    if (compare(address, range.low) < 0) high = middle - 1;
    else if (compare(address, range.high) > 0) low = middle + 1;
    else return true;
  }
  return false;
}

function addressTest(texts: readonly string[]): (address: StoredAddress | undefined) => boolean {
  const ranges = texts.flatMap((text) => parseRange(text) ?? []);
  const v4 = outermost(ranges.filter(({ low }) => typeof low === "number"));
  const v6 = outermost(ranges.filter(({ low }) => typeof low !== "number"));
  return (address) => address !== undefined && within(typeof address === "number" ? v4 : v6, address);
}

function protocolTest(names: readonly string[]): Test {
  const numbers = new Set(
    Object.entries(protocolNames).flatMap(([number, name]) => (names.includes(name) ? [Number(number)] : [])),
  );
  for (const name of names) if (/^\d+$/.test(name)) numbers.add(Number(name));
  if (!names.includes("dns")) return ({ protocol }) => numbers.has(protocol);
  return ({ protocol, sourcePort, destinationPort }) =>
    numbers.has(protocol) ||
    ((protocol === UDP || protocol === TCP) && (sourcePort === DNS_PORT || destinationPort === DNS_PORT));
}

/** `*` stands for any characters. Takes the leftmost place of each part: never goes back, whatever the pattern. */
export function globTest(glob: string): (text: string) => boolean {
  const [head = "", ...rest] = glob.split("*");
  const tail = rest.pop();
  if (tail === undefined) return (text) => text === head;
  return (text) => {
    if (!text.startsWith(head)) return false;
    let at = head.length;
    for (const part of rest) {
      const found = text.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return text.length - tail.length >= at && text.endsWith(tail);
  };
}

function reasonTest(globs: readonly string[]): Test {
  const tests = globs.map((glob) => globTest(glob.toLowerCase()));
  return ({ dropReason }) => {
    if (dropReason === undefined) return false;
    const reason = dropReason.toLowerCase();
    return tests.some((test) => test(reason));
  };
}

function endTests(end: "source" | "destination", { ip, port }: NonNullable<FilterRule["from"]>): Test[] {
  const tests: Test[] = [];
  if (ip !== undefined) {
    const matches = addressTest(ip);
    tests.push((_, ends) => matches(ends[end]));
  }
  if (port !== undefined) {
    const ports = new Set(port);
    tests.push(
      end === "source"
        ? ({ sourcePort }) => ports.has(sourcePort)
        : ({ destinationPort }) => ports.has(destinationPort),
    );
  }
  return tests;
}

function eitherEndTests({ ip, port }: Pick<FilterRule, "ip" | "port">): Test[] {
  const tests: Test[] = [];
  if (ip !== undefined) {
    const matches = addressTest(ip);
    tests.push((_, { source, destination }) => matches(source) || matches(destination));
  }
  if (port !== undefined) {
    const ports = new Set(port);
    tests.push(({ sourcePort, destinationPort }) => ports.has(sourcePort) || ports.has(destinationPort));
  }
  return tests;
}

/** The cheapest first: most records fail early. */
function testsOf(rule: FilterRule): readonly Test[] {
  const { from, to, protocol, verdict, direction, reason } = rule;
  return [
    ...(verdict === undefined ? [] : [(record: FlowRecord) => verdict.includes(record.verdict)]),
    ...(direction === undefined ? [] : [(record: FlowRecord) => direction.includes(record.direction)]),
    ...(protocol === undefined ? [] : [protocolTest(protocol)]),
    ...(from === undefined ? [] : endTests("source", from)),
    ...(to === undefined ? [] : endTests("destination", to)),
    ...eitherEndTests(rule),
    ...(reason === undefined ? [] : [reasonTest(reason)]),
  ];
}

function ruleTest(rule: FilterRule): Test {
  const tests = testsOf(rule);
  return (record, ends) => {
    for (const test of tests) if (!test(record, ends)) return false;
    return true;
  };
}

const namesAddresses = ({ ip, from, to }: FilterRule): boolean =>
  [ip, from?.ip, to?.ip].some((addresses) => addresses !== undefined);

const matchesAny = (tests: readonly Test[], record: FlowRecord, ends: Ends): boolean => {
  for (const test of tests) if (test(record, ends)) return true;
  return false;
};

export function createFilter({ include, exclude }: FilterRules): Filter {
  const included = include.map(ruleTest);
  const excluded = exclude.map(ruleTest);
  const parses = [...include, ...exclude].some(namesAddresses);
  const ends: Ends = { source: undefined, destination: undefined };
  return (record) => {
    if (parses) {
      ends.source = parseAddress(record.source);
      ends.destination = parseAddress(record.destination);
    }
    if (included.length > 0 && !matchesAny(included, record, ends)) return "not_included";
    return matchesAny(excluded, record, ends) ? "excluded" : undefined;
  };
}
