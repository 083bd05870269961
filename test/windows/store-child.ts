// Opens a store and keeps it, until it is killed: a program of its own for the tests.

import { openStore } from "../../src/store/store.ts";
import { append } from "../store.contract.ts";
import { flows } from "../store.flows.ts";

const [dir = "", rows = "0"] = process.argv.slice(2);
const store = openStore({ dir, bytesMax: 2 ** 26, ageMaxMs: 1e12 });
append(store, flows(Number(rows)));
console.log(`rows: ${store.stats().rows}`);
await Bun.sleep(120_000); // The test kills it. What nobody refers to any more would be closed before.
store.close();
