// Where the API listens: beyond loopback only with a token or client certificates.

import { describe, expect, test } from "bun:test";
import { ConfigError, type ConfigProblem, loadConfig } from "../src/config.ts";

function problemsOf(run: () => unknown): readonly ConfigProblem[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error("no problem was found");
}

describe("listening beyond loopback", () => {
  test.each(["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "LOCALHOST:1", "[::ffff:127.0.0.1]:1"])(
    "%s needs nothing",
    (listen) => {
      expect(loadConfig({ env: { FOVEA_LISTEN: listen } }).listen.port).toBe(1);
    },
  );

  test.each(["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "edge.example:1", "[fe80::1]:1", "128.0.0.1:1"])(
    "%s needs a token or client certificates",
    (listen) => {
      const refused = problemsOf(() => loadConfig({ env: {}, overrides: { listen } }));
      expect(refused.map(({ file, key }) => [file, key])).toEqual([["command line", "listen"]]);
      expect(refused[0]?.message).toContain("api.tokenFile");
      expect(refused[0]?.message).toContain("api.tls.clientCaFile");
      expect(loadConfig({ env: {}, overrides: { listen, api: { tokenFile: "/t" } } }).api.tokenFile).toBe(
        "/t",
      );
      const tls = { certFile: "/c", keyFile: "/k" };
      expect(() => loadConfig({ env: {}, overrides: { listen, api: { tls } } })).toThrow(ConfigError);
      const mutual = { ...tls, clientCaFile: "/a" };
      expect(loadConfig({ env: {}, overrides: { listen, api: { tls: mutual } } }).api.tls).toEqual(mutual);
    },
  );

  test("open metrics alone do not make it allowed", () => {
    const env = { FOVEA_API_OPEN_METRICS: "true", FOVEA_LISTEN: "0.0.0.0:1" };
    expect(() => loadConfig({ env })).toThrow("(key listen) 0.0.0.0:1 can be reached");
  });
});
