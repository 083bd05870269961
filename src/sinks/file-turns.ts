// One thing after the other in a directory, also where a sink that was replaced still waits for its disk.

import { resolve } from "node:path";

export type Turns = {
  exclusive<T>(work: () => Promise<T>): Promise<T>;
  /** Until all that was begun so far has ended, however. */
  idle(): Promise<unknown>;
};

/** Of directories in which something is under way. */
const last = new Map<string, Promise<unknown>>();

export function turnsIn(directory: string): Turns {
  const path = resolve(directory);
  const idle = (): Promise<unknown> => last.get(path) ?? Promise.resolve();
  return {
    idle,
    exclusive(work) {
      const done = idle().then(work);
      const turn = Promise.allSettled([done]).then(() => {
        if (last.get(path) === turn) last.delete(path);
      });
      last.set(path, turn);
      return done;
    },
  };
}
