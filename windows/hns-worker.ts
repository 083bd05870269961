// The worker's entry point: asks HNS, which may block this thread for as long as it likes, and reads the answers.

import { parentPort } from "node:worker_threads";
import { type Hns, openHns } from "./hns.ts";
import type { HnsQuestion, HnsReply } from "./hns-client.ts";
import { HnsError } from "./hns-parse.ts";
import { createHnsReader, type HnsReader, HnsReadingError } from "./hns-reading.ts";

let hns: Hns | undefined;
let reader: HnsReader | undefined;

function reply({ library, endpointsMax, budgetMs }: HnsQuestion): HnsReply {
  try {
    hns ??= openHns(library);
    reader ??= createHnsReader({ endpointsMax, budgetMs, elapsedMs: () => performance.now() });
    return reader.read(hns.get);
  } catch (error) {
    if (error instanceof HnsReadingError) return { source: error.source, message: error.message };
    if (error instanceof HnsError) return { source: "hns-list", message: error.message };
    const told = error instanceof Error ? error.message : String(error);
    return { source: "hns-worker", message: `the worker that asks HNS failed: ${told.replace(/\s+/g, " ")}` };
  }
}

parentPort?.on("message", (question: HnsQuestion) => parentPort?.postMessage(reply(question)));
