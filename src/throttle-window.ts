// The window of the throttle: how many records were kept in each of the last intervals, and in all of them.

/** More intervals than this are refused: each one holds its count in memory. */
export const windowMax = 1_000_000;

export type Window = {
  /** Goes on to an interval, by its number; what is older than the window counts no more. Never goes back. */
  moveTo(interval: number): void;
  /** One record was kept in the interval that goes on. */
  add(): void;
  readonly held: number;
};

/** `held`: what counts as kept in the interval that goes on, from the start. */
export function createWindow(options: {
  readonly size: number;
  readonly interval: number;
  readonly held: number;
}): Window {
  const { size } = options;
  const panes = new Float64Array(size); // One pane may hold the budget of the whole window, past 2^32.
  let { interval, held } = options;
  let pane = 0;
  panes[pane] = held;

  const clear = () => {
    panes.fill(0);
    held = 0;
  };

  const step = () => {
    pane = pane + 1 === size ? 0 : pane + 1;
    held -= panes[pane] ?? 0;
    panes[pane] = 0;
  };

  return {
    moveTo(next) {
      if (next - interval >= size) clear();
      else for (let passed = interval; passed < next; passed++) step();
      interval = Math.max(interval, next);
    },
    add() {
      panes[pane] = (panes[pane] ?? 0) + 1;
      held++;
    },
    get held() {
      return held;
    },
  };
}
