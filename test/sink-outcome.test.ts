// What an answer means by its status, which proxy the environment names, and the words for what went wrong.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { firstLine, outcomeOf, retryAfterMs } from "../src/sinks/outcome.ts";
import { proxyFor } from "../src/sinks/proxy.ts";
import type { Outcome } from "../src/sinks/sink.ts";
import { failureOf } from "../src/sinks/transport-errors.ts";

const bytes = (text: string) => new Uint8Array(new TextEncoder().encode(text));
const answer = (status: number, headers: Record<string, string> = {}, body = "") => ({
  status,
  headers: new Headers(headers),
  body: bytes(body),
});
const now = Date.UTC(2026, 0, 1);
const brief = (outcome: Outcome) =>
  [outcome.kind, outcome.code, "reason" in outcome ? outcome.reason : "", "slow" in outcome].join(" ");

describe("a status", () => {
  test.each([
    [200, "stored 200  false"],
    [204, "stored 204  false"],
    [260, "stored 260  false"],
    [302, "again 302 redirect true"],
    [400, "refused 400 4xx false"],
    [401, "again 401 auth false"],
    [403, "again 403 forbidden true"],
    [404, "again 404 not_found true"],
    [405, "again 405 not_found true"],
    [407, "again 407 auth false"],
    [408, "again 408 throttled false"],
    [409, "refused 409 4xx false"],
    [413, "too_large 413  false"],
    [415, "refused 415 4xx false"],
    [422, "refused 422 4xx false"],
    [429, "again 429 throttled false"],
    [500, "again 500 server false"],
    [502, "again 502 server false"],
    [503, "again 503 server false"],
    [504, "again 504 server false"],
    [599, "again 599 server false"],
    [600, "again 600 other false"],
    [100, "again 100 other false"],
  ])("%d", (status, expected) => {
    expect(brief(outcomeOf(answer(status), now))).toBe(expected);
  });

  test("is told with what the body says, on one line", () => {
    const outcome = outcomeOf(answer(400, {}, "out of order\nsample 7"), now);
    expect(outcome).toMatchObject({ message: "HTTP 400: out of order" });
  });

  test("that redirects names the host alone", () => {
    const messageTo = (location: string) => {
      const outcome = outcomeOf(answer(307, { Location: location }), now);
      return "message" in outcome ? outcome.message : "";
    };
    expect(messageTo("https://login.example.com/x?token=hunter2")).toBe(
      "HTTP 307: it redirects to login.example.com, which is not followed; check url of this sink",
    );
    expect(messageTo("//other.example.com:8443/x")).toContain("to other.example.com:8443,");
    expect(messageTo("/login?token=hunter2")).toContain("to another path,");
  });

  test("what got no answer is its own outcome", () => {
    const again = { kind: "again", code: "tls", reason: "tls", message: "no" } as const;
    expect(outcomeOf(again)).toBe(again);
  });

  test("Retry-After holds for what says to wait", () => {
    const header = { "Retry-After": "17" };
    for (const status of [408, 429, 500, 503])
      expect(outcomeOf(answer(status, header), now)).toMatchObject({ afterMs: 17_000 });
    for (const status of [401, 403, 404])
      expect(outcomeOf(answer(status, header), now)).not.toHaveProperty("afterMs");
  });
});

describe("Retry-After", () => {
  const date = (offsetMs: number) => new Date(now + offsetMs).toUTCString();
  test.each([
    [{}, undefined],
    [{ "Retry-After": "" }, undefined],
    [{ "Retry-After": "0" }, 0],
    [{ "Retry-After": "120" }, 120_000],
    [{ "Retry-After": "999999999999999" }, 3_600_000],
    [{ "Retry-After": "-5" }, undefined],
    [{ "Retry-After": "1.5" }, undefined],
    [{ "Retry-After": "soon" }, undefined],
    [{ "Retry-After": date(90_000) }, 90_000],
    [{ "Retry-After": date(-90_000) }, 0],
    [{ "Retry-After": date(100 * 3_600_000) }, 3_600_000],
    // The receiver's clock is an hour behind ours: its own date counts.
    [{ "Retry-After": date(-3_570_000), Date: date(-3_600_000) }, 30_000],
  ])("%j is %p ms", (headers, expected) => {
    expect(retryAfterMs(new Headers(headers as Record<string, string>), now)).toBe(expected);
  });

  test("is never negative, never above an hour and never no number, whatever is sent", () => {
    const value = fc.oneof(fc.string({ unit: "grapheme-ascii" }), fc.integer().map(String));
    const property = fc.property(value, (given) => {
      const ms = retryAfterMs(new Headers({ "Retry-After": given }), now) ?? 0;
      return ms >= 0 && ms <= 3_600_000;
    });
    fc.assert(property);
  });
});

describe("the first line of a body", () => {
  test.each([
    ["", ""],
    ["\n\n  one\ntwo", "one"],
    ['{\n  "error": "bad",\n  "code": 7\n}\n', '{ "error": "bad", "code": 7 }'],
    [
      "<html><head><title>502</title><style>p {x}</style></head>\n<body>Bad\n gateway</body>",
      "502 Bad gateway",
    ],
    ["a\u001b[31mb\u0000c", "a [31mb c"],
    ["Authorization: Bearer eyJhbGciOi.eyJ.sig was refused", "Authorization: Bearer (hidden) was refused"],
    ["x".repeat(300), `${"x".repeat(256)}...`],
  ])("%j", (text, expected) => {
    expect(firstLine(bytes(text))).toBe(expected);
  });

  test("is one printable line of a bounded length, whatever the bytes", () => {
    const property = fc.property(fc.uint8Array({ maxLength: 2000 }), (given) => {
      const line = firstLine(given);
      return line.length <= 259 && !/\p{C}|[\r\n\u2028\u2029]/u.test(line);
    });
    fc.assert(property);
  });
});

describe("the proxy of the environment", () => {
  const env = { HTTPS_PROXY: "http://secure:1", http_proxy: "plain:2" };
  const direct = (noProxy: string, url: string) =>
    proxyFor("env", { ...env, NO_PROXY: noProxy }, url) === undefined;

  test("is by the scheme of the URL, small letters first", () => {
    expect(proxyFor("env", env, "https://a.example/")).toBe("http://secure:1");
    expect(proxyFor("env", env, "http://a.example/")).toBe("http://plain:2");
    expect(proxyFor("env", { ...env, https_proxy: "http://small:3" }, "https://a.example/")).toBe(
      "http://small:3",
    );
    expect(proxyFor("env", { ALL_PROXY: "http://all:4" }, "https://a.example/")).toBe("http://all:4");
    expect(proxyFor("env", { HTTPS_PROXY: "" }, "https://a.example/")).toBeUndefined();
    expect(proxyFor("env", env, "https://127.0.0.1/")).toBe("http://secure:1");
    expect(proxyFor("none", env, "https://a.example/")).toBeUndefined();
    expect(proxyFor("http://mine:5", { ...env, NO_PROXY: "*" }, "https://a.example/")).toBe("http://mine:5");
  });

  test.each([
    ["*", "https://a.example/"],
    ["example.com", "https://example.com/"],
    ["example.com", "https://up.example.com/"],
    [".example.com", "https://example.com/"],
    ["*.example.com", "https://up.example.com/"],
    ["x.org, EXAMPLE.com.", "https://Up.example.com./"],
    ["x.org example.com", "https://example.com/"],
    ["example.com:443", "https://example.com/"],
    ["example.com:8443", "https://example.com:8443/"],
    ["10.0.0.0/8", "http://10.1.2.3/"],
    ["10.1.2.3", "http://10.1.2.3:9090/"],
    ["fd00::/8", "http://[fd00::1]/"],
    ["::1", "http://[::1]:80/"],
    ["[::1]:8080", "http://[::1]:8080/"],
  ])("%p exempts %s", (noProxy, url) => {
    expect(direct(noProxy, url)).toBe(true);
  });

  test.each([
    ["", "https://example.com/"],
    [".", "https://example.com/"],
    ["example.com", "https://badexample.com/"],
    ["example.com", "https://example.com.evil.org/"],
    ["example.com:8443", "https://example.com/"],
    ["10.0.0.0/8", "http://11.1.2.3/"],
    ["10.0.0.0/99", "http://10.1.2.3/"],
    ["0.1", "http://10.0.0.1/"],
    ["[::1]:8080", "http://[::1]/"],
  ])("%p does not exempt %s", (noProxy, url) => {
    expect(direct(noProxy, url)).toBe(false);
  });
});

describe("the runtime's errors", () => {
  const coded = (code: string, message = "see http://h/?secret=hunter2") =>
    Object.assign(new Error(message), { code });
  test.each([
    ["ENOTFOUND", "network", "its name is not known to DNS"],
    ["EHOSTUNREACH", "network", "no route to this host"],
    ["CERT_HAS_EXPIRED", "tls", "its certificate has expired, or the clock of this machine is wrong"],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "tls", "its certificate is refused (ERR_SSL_WRONG_VERSION_NUMBER)"],
    ["ETIMEDOUT", "timeout", "no connection in time"],
    ["SomethingNew", "network", "the request failed (SomethingNew)"],
  ] as const)("%s", (code, expected, message) => {
    expect(failureOf(coded(code))).toEqual({ code: expected, message });
  });

  test("that are no errors are told as well, and none is quoted", () => {
    for (const given of [
      undefined,
      "hunter2",
      new TypeError("hunter2"),
      coded("ERR_PROXY_TUNNEL", "hunter2: 502 Bad"),
    ])
      expect(JSON.stringify(failureOf(given))).not.toContain("hunter2");
  });
});
