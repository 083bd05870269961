// A part that outlives the configuration it was opened with, as long as the next one asks for the same part.

export type Kept<Asked, Part> = AsyncDisposable & {
  /** The part that is open, where it is what is asked for; else that one is closed, and another one opened. */
  open(asked: Asked): Promise<Part>;
  /** What will be asked for next; undefined when nothing will be. */
  foresee(asked: Asked | undefined): void;
  /** Whether the open part is what is asked for. */
  fits(asked: Asked): boolean;
  /** Whether the open part is what will be asked for next. */
  stays(): boolean;
  /** Closes the part, unless it stays. */
  leave(): Promise<void>;
};

/** Parts with equal keys are the same. `close` must not throw. */
export function createKept<Asked, Part>(options: {
  readonly keyOf: (asked: Asked) => unknown;
  readonly open: (asked: Asked) => Promise<Part>;
  readonly close: (part: Part) => Promise<void>;
}): Kept<Asked, Part> {
  const { keyOf, open, close } = options;
  let current: { readonly key: unknown; readonly part: Part } | undefined;
  let next: Asked | undefined;
  const fits = (asked: Asked | undefined): boolean =>
    asked !== undefined && current !== undefined && Bun.deepEquals(current.key, keyOf(asked));
  const end = async (): Promise<void> => {
    const closing = current;
    current = undefined;
    if (closing !== undefined) await close(closing.part);
  };
  return {
    open: async (asked) => {
      if (current !== undefined && fits(asked)) return current.part;
      await end();
      const key = keyOf(asked);
      const part = await open(asked);
      current = { key, part };
      return part;
    },
    foresee: (asked) => {
      next = asked;
    },
    fits,
    stays: () => fits(next),
    leave: async () => {
      if (!fits(next)) await end();
    },
    [Symbol.asyncDispose]: end,
  };
}
