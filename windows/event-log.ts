// The event log of Windows: where its administrators look for why a service has started, stopped or failed.

import { createKey, deleteKey } from "./registry.ts";
import { type Address, openLibrary, utf16, utf16Pointer } from "./system.ts";

/** Numbers of events never change their meaning: filters and alerts of users name them. */
export const events = {
  started: { id: 1, level: "info" },
  stopped: { id: 2, level: "info" },
  configuration: { id: 3, level: "error" },
  failed: { id: 4, level: "error" },
  crashed: { id: 5, level: "error" },
  overdue: { id: 6, level: "error" },
} as const;

export type EventName = keyof typeof events;

const types = { error: 1, warn: 2, info: 4 } as const;

// ReportEvent takes no string that is longer.
const charsMax = 31_839;

const sourceKey = (source: string): string =>
  `SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\${source}`;

/** EventCreate.exe is part of Windows, and its messages 1 to 1000 are nothing but the text of the event. */
export function registerEventSource(source: string): void {
  createKey(sourceKey(source), [
    { name: "EventMessageFile", expand: "%SystemRoot%\\System32\\EventCreate.exe" },
    { name: "TypesSupported", dword: types.error | types.warn | types.info },
  ]);
}

/** One that is not there is no error. */
export const removeEventSource = (source: string): void => deleteKey(sourceKey(source));

/** A percent sign with a number stands for an insertion, also inside of one. */
const withoutInsertions = (text: string): string => text.replace(/%(?=\d)/g, "% ").slice(0, charsMax);

const openCalls = () =>
  openLibrary("advapi32.dll", {
    RegisterEventSourceW: { args: ["ptr", "ptr"], returns: "ptr" },
    ReportEventW: {
      args: ["ptr", "u16", "u16", "u32", "ptr", "u16", "u32", "ptr", "ptr"],
      returns: "i32",
    },
    DeregisterEventSource: { args: ["ptr"], returns: "i32" },
  }).symbols;

function report(calls: ReturnType<typeof openCalls>, handle: Address, event: EventName, text: string): void {
  const { id, level } = events[event];
  const head = [types[level], 0, id] as const;
  const strings = utf16Pointer(withoutInsertions(text));
  if (calls.ReportEventW(handle, ...head, null, 1, 0, strings, null) === 0)
    throw new Error(`the event log does not take event ${id}`);
}

/** Writes one event; throws where the log does not take it. */
export function writeEvent(source: string, event: EventName, text: string): void {
  const calls = openCalls();
  const handle = calls.RegisterEventSourceW(null, utf16(source));
  if (handle === null) throw new Error(`the event log cannot be opened as ${source}`);
  try {
    report(calls, handle, event, text);
  } finally {
    calls.DeregisterEventSource(handle);
  }
}
