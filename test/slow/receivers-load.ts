// Series that come, end and come back, with values that are hard to carry: what real receivers must give back.

import type { SampleStep } from "../../src/store/sample-pending.ts";

type Load = {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Undefined where the series is not there. */
  value(step: number): number | undefined;
};

const interfaces = 80;
const doubles = [5e-324, -1 / 3, 0.1, -0, Number.MAX_VALUE, 1e-300] as const;

/** VictoriaMetrics keeps decimals, all of a block with the same exponent: of this one it keeps the times alone. */
export const roundedByVictoria = "fovea_doubles";

const one = (name: string, value: Load["value"]): Load => ({ name, labels: {}, value });
/** A series that is there in some steps alone. */
const sometimes = (name: string, isThere: (step: number) => boolean): Load =>
  one(name, (step) => (isThere(step) ? step * 3 : undefined));

const loads: readonly Load[] = [
  ...Array.from({ length: interfaces }, (_, number) => ({
    name: "fovea_bytes_total",
    labels: { interface: `eth${number}`, direction: number % 2 === 0 ? "ingress" : "egress" },
    value: (step: number) => step * 1000 * (number + 1) + ((step * step) % 997),
  })),
  one("fovea_load", (step) => ((step * 37) % 1000) / 8),
  one("fovea_temperature", (step) => -(1 + ((step * 13) % 50)) / 2),
  one("fovea_huge_total", (step) => 2 ** 53 - (step % 2)),
  one("fovea_nan", (step) => (step % 7 === 3 ? Number.NaN : step)),
  one(roundedByVictoria, (step) => doubles[step % doubles.length] ?? 0),
  sometimes("fovea_ended", (step) => step < 300),
  sometimes("fovea_back", (step) => step < 200 || step >= 400),
  sometimes("fovea_flaps", (step) => step % 50 !== 49),
  sometimes("fovea_late", (step) => step >= 500),
  sometimes("fovea_once", (step) => step === 360),
  // Where blocks of the store begin.
  sometimes("fovea_gone_for_a_block", (step) => step < 120 || step >= 240),
];

export const seriesCount = loads.length;

export const stepOf = (step: number, at: number): SampleStep => ({
  at,
  series: loads.flatMap(({ name, labels, value }) => {
    const now = value(step);
    return now === undefined ? [] : [{ name, labels, value: now }];
  }),
});
