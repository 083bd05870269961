// A parameter whose value has the right form and still makes no sense beside the others or at this time.

export class ParameterError extends Error {
  override readonly name = "ParameterError";
  /** As the client wrote it. */
  readonly parameter: string;
  constructor(parameter: string, message: string) {
    super(message);
    this.parameter = parameter;
  }
}
