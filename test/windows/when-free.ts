// Changes files that a stand-in may be reading just then: Windows refuses to rename or remove those meanwhile.

const ERROR_SHARING_VIOLATION = 32;
const heldCodes: readonly unknown[] = ["EPERM", "EACCES", "EBUSY", ERROR_SHARING_VIOLATION];

const isHeld = (error: unknown): boolean =>
  error instanceof Error && "code" in error && heldCodes.includes(error.code);

/** Tries again while somebody has the file open, which for stand-ins is a moment; for good, it fails. */
export function whenFree<T>(change: () => T): T {
  for (const giveUpMs = performance.now() + 15_000; ; Bun.sleepSync(5)) {
    try {
      return change();
    } catch (error) {
      if (!isHeld(error) || performance.now() > giveUpMs) throw error;
    }
  }
}
