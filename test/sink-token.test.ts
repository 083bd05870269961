// A token in use: renewed in time, through failures, and never after its end.

import { describe, expect, test } from "bun:test";
import { openTokens, type Token } from "../src/sinks/token.ts";

const never = new AbortController().signal;

describe("a token in use", () => {
  /** Each fetch waits for the test to give it something. */
  function tokenRig() {
    const fetches: PromiseWithResolvers<Token>[] = [];
    const clock = { at: 0 };
    const tokens = openTokens({
      now: () => clock.at,
      timeoutMs: 60_000,
      fetchToken: () => {
        const fetch = Promise.withResolvers<Token>();
        fetches.push(fetch);
        return fetch.promise;
      },
    });
    const settled = () => new Promise((resolve) => setImmediate(resolve));
    return { fetches, clock, tokens, settled, header: () => tokens.header(never) };
  }
  const hour = 3_600_000;

  test("serves on while it is renewed, five minutes before its end, and through failures until its end", async () => {
    const { fetches, clock, tokens, settled, header } = tokenRig();
    const [first, second] = [header(), header()];
    fetches[0]?.resolve({ token: "a", expiresAt: hour });
    expect(await Promise.all([first, second])).toEqual(["Bearer a", "Bearer a"]);
    clock.at = hour - 300_001;
    expect([await header(), fetches.length]).toEqual(["Bearer a", 1]);
    clock.at = hour - 300_000;
    expect([await header(), await header(), fetches.length]).toEqual(["Bearer a", "Bearer a", 2]);
    fetches[1]?.reject(new Error("not now"));
    await settled();
    expect([await header(), fetches.length, tokens.facts().tokenErrors]).toEqual(["Bearer a", 2, 1]);
    clock.at += 30_000; // The pause after a failure is over.
    expect([await header(), fetches.length]).toEqual(["Bearer a", 3]);
    fetches[2]?.resolve({ token: "b", expiresAt: 2 * hour });
    await settled();
    expect([await header(), fetches.length]).toEqual(["Bearer b", 3]);
    expect(tokens.facts()).toEqual({ tokenErrors: 1, tokenExpiresAt: 2 * hour });
  });

  test("is renewed when its issuer wants it, and not used in its last half minute", async () => {
    const { fetches, clock, header } = tokenRig();
    const first = header();
    fetches[0]?.resolve({ token: "a", expiresAt: hour, refreshAt: 1000 });
    await first;
    clock.at = 1000;
    expect([await header(), fetches.length]).toEqual(["Bearer a", 2]);
    clock.at = hour - 30_000;
    const late = header();
    fetches[1]?.resolve({ token: "b", expiresAt: 2 * hour });
    expect([await late, fetches.length]).toEqual(["Bearer b", 2]);
  });

  test("that was refused is dropped, and a failure in its place is told to all that wait", async () => {
    const { fetches, tokens, header } = tokenRig();
    const first = header();
    fetches[0]?.resolve({ token: "a", expiresAt: hour });
    await first;
    tokens.rejected();
    expect(tokens.facts()).toEqual({ tokenErrors: 0 });
    const waiting = [header(), header()];
    fetches[1]?.reject(new Error("no more"));
    const told = await Promise.allSettled(waiting);
    expect(told.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(fetches.length).toBe(2);
  });

  test("is not waited for after the end", async () => {
    const seen: AbortSignal[] = [];
    const tokens = openTokens({
      now: Date.now,
      timeoutMs: 60_000,
      fetchToken: (signal) => {
        seen.push(signal);
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    });
    const header = tokens.header(never);
    tokens[Symbol.dispose]();
    await expect(header).rejects.toThrow();
    expect(seen[0]?.aborted).toBe(true);
  });
});
