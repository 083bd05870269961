// What is wrong with what an operator asks of forwarding.

/** No sink of the configuration has the name. */
export class UnknownSinkError extends Error {
  constructor(name: string, known: readonly string[]) {
    const names = known.length === 0 ? "there are no sinks" : `there are ${known.join(", ")}`;
    super(`there is no sink "${name}"; ${names}`);
  }
}
