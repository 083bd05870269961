// Windows of the day and week in which a sink may send.

const days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] as const;

/** Minutes since midnight; `to` before `from` reaches into the next day. Days are those on which it begins. */
export type Window = { readonly days: readonly number[]; readonly from: number; readonly to: number };

const form = /^(?:([a-z]{3}(?:,[a-z]{3})*) +)?(\d\d):(\d\d)-(\d\d):(\d\d)$/;

/** `22:00-06:00`, `sat,sun 00:00-24:00`; undefined for anything else. */
export function parseWindow(text: string): Window | undefined {
  const [, names, ...digits] = form.exec(text.trim().toLowerCase()) ?? [];
  const [fromHour = Number.NaN, fromMinute = 0, toHour = 0, toMinute = 0] = digits.map(Number);
  const from = fromHour * 60 + fromMinute;
  const to = toHour * 60 + toMinute;
  if (!(from < 1440 && to <= 1440 && from !== to && fromMinute < 60 && toMinute < 60)) return undefined;
  const which =
    names?.split(",").map((name) => (days as readonly string[]).indexOf(name)) ?? days.map((_, day) => day);
  return which.includes(-1) ? undefined : { days: which, from, to };
}

/** Where the clock of a time zone stands: the day of the week from Sunday 0, and minutes since midnight. */
function clockOf(at: number, timeZone: string): { readonly day: number; readonly minute: number } {
  const parts = new Intl.DateTimeFormat("en-US", {
    ...{ timeZone, weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  }).formatToParts(at);
  const value = (type: string): string => parts.find((part) => part.type === type)?.value ?? "";
  const day = (days as readonly string[]).indexOf(value("weekday").toLowerCase());
  return { day, minute: Number(value("hour")) * 60 + Number(value("minute")) };
}

const isIn = ({ days: which, from, to }: Window, day: number, minute: number): boolean =>
  from < to
    ? which.includes(day) && minute >= from && minute < to
    : (which.includes(day) && minute >= from) || (which.includes((day + 6) % 7) && minute < to);

/** Whether `at` (epoch milliseconds) is in one of the windows; always where there are none. */
export function isOpen(windows: readonly Window[], timeZone: string, at: number): boolean {
  if (windows.length === 0) return true;
  const { day, minute } = clockOf(at, timeZone);
  return windows.some((window) => isIn(window, day, minute));
}
