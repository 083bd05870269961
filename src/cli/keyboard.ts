// Single keys, as they are pressed.

export type Keyboard = {
  /** Calls with each key until it is disposed of; Ctrl-C is one of them then, and no signal. */
  listen(pressed: (key: string) => void): Disposable;
};

export type KeyStream = {
  setRawMode(raw: boolean): unknown;
  on(event: "data", listener: (data: Buffer | string) => void): unknown;
  off(event: "data", listener: (data: Buffer | string) => void): unknown;
  resume(): unknown;
  pause(): unknown;
};

export const keyboardOf = (stream: KeyStream): Keyboard => ({
  listen: (pressed) => {
    const heard = (data: Buffer | string) => {
      const text = data.toString();
      // An arrow or a function key comes as one sequence, and means nothing here.
      if (text.startsWith("\u001b")) return;
      for (const key of text) pressed(key);
    };
    const restore = () => void stream.setRawMode(false);
    stream.setRawMode(true);
    stream.on("data", heard);
    stream.resume();
    process.on("exit", restore);
    return {
      [Symbol.dispose]: () => {
        process.off("exit", restore);
        stream.off("data", heard);
        stream.pause();
        restore();
      },
    };
  },
});
