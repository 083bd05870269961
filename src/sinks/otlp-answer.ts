// What the receiver of OTLP says in the body of its answer.

import { type DescMessage, fromBinary, fromJsonString, type MessageShape } from "@bufbuild/protobuf";
import { LogsResponseSchema, MetricsResponseSchema, StatusSchema } from "./otlp.gen.ts";
import type { Notation } from "./otlp-encode.ts";
import type { Signal } from "./sink.ts";
import type { Answer } from "./web-reply.ts";

/** Which records it took note of and will not keep; 0 with a message is a warning. */
export type PartialSuccess = { readonly rejected: number; readonly message: string };

/** Answers come in the encoding of the request, and say so; a few say nothing. */
function notationOf({ headers }: Answer, sent: Notation): Notation | undefined {
  const type = (headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  if (type === "") return sent;
  if (type === "application/json") return "json";
  return type === "application/x-protobuf" || type === "application/protobuf" ? "protobuf" : undefined;
}

/** Undefined for what is no such message: a proxy may have answered. */
function read<Desc extends DescMessage>(
  schema: Desc,
  answer: Answer,
  sent: Notation,
): MessageShape<Desc> | undefined {
  const notation = notationOf(answer, sent);
  if (answer.body.length === 0 || notation === undefined) return undefined;
  try {
    if (notation === "protobuf") return fromBinary(schema, answer.body);
    return fromJsonString(schema, new TextDecoder().decode(answer.body), { ignoreUnknownFields: true });
  } catch {
    return undefined; // The status says what became of the records, whatever the body is.
  }
}

/** Undefined when all was taken, or nothing can be read. */
export function readSuccess(answer: Answer, signal: Signal, sent: Notation): PartialSuccess | undefined {
  if (signal === "metrics") {
    const partial = read(MetricsResponseSchema, answer, sent)?.partialSuccess;
    return partial && { rejected: Number(partial.rejectedDataPoints), message: partial.errorMessage };
  }
  const partial = read(LogsResponseSchema, answer, sent)?.partialSuccess;
  return partial && { rejected: Number(partial.rejectedLogRecords), message: partial.errorMessage };
}

/** The message of a `google.rpc.Status`; undefined without one. */
export function readError(answer: Answer, sent: Notation): string | undefined {
  const message = read(StatusSchema, answer, sent)?.message ?? "";
  return message === "" ? undefined : message;
}
