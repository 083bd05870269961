// A wait that an order, or a tick of the store, ends early.

/** Longer timers overflow; a wait that ends for nothing once an hour costs nothing. */
const waitMaxMs = 3_600_000;

/** Resolves after `ms`, or at once when the signal aborts; never rejects. */
export type Sleep = (ms: number, signal: AbortSignal) => Promise<void>;

export type Bell = {
  /** One at a time. Without `onTick` an order alone ends it early. */
  wait(ms: number, onTick: boolean): Promise<void>;
  tick(): void;
  order(): void;
};

/** Who does not wait hears nothing: what the bell tells of is looked at anew before each wait anyway. */
export function createBell(sleep: Sleep): Bell {
  let waiting: { readonly controller: AbortController; readonly onTick: boolean } | undefined;
  return {
    wait: async (ms, onTick) => {
      const controller = new AbortController();
      waiting = { controller, onTick };
      await sleep(Math.min(ms, waitMaxMs), controller.signal);
      waiting = undefined;
    },
    tick: () => {
      if (waiting?.onTick === true) waiting.controller.abort();
    },
    order: () => waiting?.controller.abort(),
  };
}
