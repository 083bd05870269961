// The write-ahead log: how long it waits for who reads the store.

import { expect, test } from "bun:test";
import { openLogFile } from "../src/store/log-file.ts";
import { budgetOf } from "../src/store/retention.ts";

const budget = budgetOf(4 * 2 ** 20);

type State = { busy: boolean; nowMs: number; timeoutMs: number; waits: number[] };

/** A database whose log a reader keeps, or not; `waits` are those that a write of a whole log took for it. */
function openLog() {
  const state: State = { busy: true, nowMs: 0, timeoutMs: 0, waits: [] };
  const pragma = (sql: string): unknown => {
    const [, timeout] = /^busy_timeout = (\d+)$/.exec(sql) ?? [];
    if (timeout !== undefined) state.timeoutMs = Number(timeout);
    if (!sql.startsWith("wal_checkpoint")) return [];
    state.waits.push(state.timeoutMs);
    if (state.busy) state.nowMs += state.timeoutMs;
    return [{ busy: state.busy ? 1 : 0, log: 1000 }];
  };
  const log = openLogFile({ database: { memory: false, pragma }, budget, nowMs: () => state.nowMs });
  log.grew(budget.walMax);
  const fit = (): boolean => {
    state.waits = [];
    try {
      log.fit(budget.walMax / 2);
      return true;
    } catch {
      return false;
    }
  };
  return { state, log, fit };
}

test("a reader that stays is waited for once, then once a minute", () => {
  const { state, fit } = openLog();
  expect([fit(), state.waits]).toEqual([false, [1000]]);
  for (let write = 0; write < 50; write++) {
    expect([fit(), state.waits]).toEqual([false, [0]]);
    state.nowMs += 1000;
  }
  state.nowMs += 10_000;
  expect([fit(), state.waits]).toEqual([false, [1000]]);
  expect([fit(), state.waits]).toEqual([false, [0]]);
});

test("once the log could be written back, the next reader is waited for again", () => {
  for (const writeBack of ["fit", "checkpoint"] as const) {
    const { state, log, fit } = openLog();
    expect(fit()).toBe(false);
    state.busy = false;
    if (writeBack === "fit") expect([fit(), state.waits]).toEqual([true, [0]]);
    else log.checkpoint({ now: true });
    state.busy = true;
    log.grew(budget.walMax);
    expect([fit(), state.waits]).toEqual([false, [1000]]);
  }
});
