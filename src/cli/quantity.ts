// Quantities for people: few digits, and a unit.

const units = ["", "k", "M", "G", "T", "P"] as const;

/** Three digits and a decimal prefix, as in "1.24 M"; `unit` follows it. */
export function quantity(value: number, unit = ""): string {
  let scaled = Math.max(0, value);
  let step = 0;
  // 999.5 would be shown as 1000.
  while (scaled >= 999.5 && step < units.length - 1) {
    scaled /= 1000;
    step += 1;
  }
  const digits = step === 0 && Number.isInteger(scaled) ? 0 : scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  const suffix = `${units[step] ?? ""}${unit}`;
  return `${scaled.toFixed(digits)}${suffix === "" ? "" : ` ${suffix}`}`;
}

/** Eighths of a block, from none to whole. */
const eighths = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"] as const;

/** A bar of `width` columns at the most for a share from 0 to 1. */
export function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  return `${"█".repeat(Math.floor(filled / 8))}${eighths[filled % 8] ?? ""}`.trimEnd();
}
