// For tests in Windows: a file that another process has just let go is refused for a moment.

const refusals: readonly unknown[] = ["EPERM", "EBUSY", "EACCES"];

const waitMsMax = 10_000;

/** Does it again while the file is refused, and throws what the last try threw. */
export function patiently<T>(act: () => T): T {
  const endAt = performance.now() + waitMsMax;
  for (;;) {
    try {
      return act();
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (!refusals.includes(code) || performance.now() > endAt) throw error;
      Bun.sleepSync(5);
    }
  }
}
