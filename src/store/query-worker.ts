// The worker's entry point: answers queries on a read-only connection of its own.

import { getPriority, setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { openReader, type Reader } from "./query.ts";
import { answerQuery } from "./query-kinds.ts";
import { type EndRequest, failureOf, type QueryFile, type Question, type Reply } from "./query-message.ts";
import { busyMs, openDatabase } from "./sqlite.ts";
import { openStringLookup } from "./strings.ts";

/** Rows that are looked at in one statement: some 2 ms, and 20 on a slow node. */
const sliceRows = 16_384;

/** How long an opening waits for another program's lock. */

type Open = Disposable & { readonly file: QueryFile; readonly reader: Reader };

function open(file: QueryFile): Open {
  const { path, nativeBinding, deadlineMs } = file;
  using undo = new DisposableStack();
  const database = undo.adopt(
    openDatabase({ path, readonly: true, timeoutMs: busyMs, nativeBinding }),
    (opened) => opened.close(),
  );
  database.pragma("cache_size = -4000");
  database.pragma("temp_store = MEMORY");
  database.pragma("trusted_schema = OFF");
  const state = database.prepare<unknown[], number>("SELECT value FROM state WHERE name = ?").pluck();
  const reader = openReader({
    database,
    generation: state.get("generation") ?? 0,
    strings: openStringLookup(database),
    lastSeq: () => state.get("seq") ?? 0,
    scanMax: sliceRows,
    deadlineMs,
  });
  const held = undo.move();
  return { file, reader, [Symbol.dispose]: () => held.dispose() };
}

/** One transaction a query: rows that retention takes meanwhile are still there for it. */
function answer({ reader }: Open, { kind, query }: Question): unknown {
  const { database } = reader;
  database.exec("BEGIN");
  try {
    return answerQuery(reader, kind, query);
  } finally {
    if (database.inTransaction) database.exec("COMMIT");
  }
}

function createAnswerer() {
  let current: Open | undefined;
  const close = (): void => {
    current?.[Symbol.dispose]();
    current = undefined;
  };
  const opened = (file: QueryFile): Open => {
    if (current?.file.path !== file.path || current.file.generation !== file.generation) close();
    current ??= open(file);
    return current;
  };
  return {
    reply(question: Question): Reply {
      const { id, file } = question;
      try {
        return { id, answer: answer(opened(file), question) };
      } catch (error) {
        const failure = failureOf(error);
        if ("code" in failure) close(); // The next query meets the file as it is then.
        return { id, failure };
      }
    },
    close,
  };
}

/** On Linux each thread has a priority of its own: ticks and scrapes go first where there are few cores. */
function giveWay(): void {
  if (process.platform === "linux") setPriority(Math.min(19, getPriority() + 5));
}

giveWay();
const answerer = createAnswerer();

parentPort?.on("message", (message: Question | EndRequest) => {
  if (!("end" in message)) return parentPort?.postMessage(answerer.reply(message));
  answerer.close();
  process.exit(0);
});
