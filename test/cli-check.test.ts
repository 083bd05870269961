// fovea check beside a service: the backend is told whom it works for.

import { expect, test } from "bun:test";
import type { World } from "../src/cli/world.ts";
import { runFovea } from "./cli.world.ts";

test("check: opens the backend as a check, so that a service that runs keeps what it has opened", async () => {
  const owners: unknown[] = [];
  const openBackend: World["openBackend"] = (_config, asked) => {
    owners.push(asked?.owner);
    return Promise.resolve({ collectors: [], [Symbol.asyncDispose]: () => Promise.resolve() });
  };
  expect((await runFovea(["check"], { openBackend })).code).toBe(0);
  expect(owners).toEqual(["check"]);
});
