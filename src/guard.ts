// What keeps other users of the machine from deciding what this process does, where modes of files do not tell it.

export type Guard = {
  /** Throws for a place that native code must not be loaded from, as somebody else could put his own there. */
  checkNative(path: string): void;
  /** Closes the directory of the store to other users where this process is the system itself; makes it for that. */
  enterDataDir(directory: string): void;
};
