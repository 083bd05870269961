// Changes files that a stand-in may be reading just then: Windows refuses to rename or remove those meanwhile.

const heldCodes = ["EPERM", "EACCES", "EBUSY"] as const;

const isHeld = (error: unknown): boolean =>
  error instanceof Error && "code" in error && heldCodes.some((code) => code === error.code);

/** Tries again while somebody has the file open, which for stand-ins is a moment; for good, it fails. */
export function whenFree(change: () => void): void {
  for (const giveUpMs = performance.now() + 15_000; ; Bun.sleepSync(5)) {
    try {
      change();
      return;
    } catch (error) {
      if (!isHeld(error) || performance.now() > giveUpMs) throw error;
    }
  }
}
