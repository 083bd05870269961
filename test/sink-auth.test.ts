// The credentials of a sink: files that change, tokens of Entra from endpoints on loopback, what failures tell.

import { describe, expect, spyOn, test } from "bun:test";
import { createPublicKey, verify, X509Certificate } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { join } from "node:path";
import { identityOf, openTokenTls, scopeIn } from "../src/sinks/entra.ts";
import {
  answered,
  failed,
  fixture,
  httpProxy,
  httpServer,
  openDirectory,
  pem,
  post,
  rawServer,
  tokenEndpoint,
  web,
  webConfig,
} from "./sink-web.world.ts";

const url = "http://127.0.0.1:1/push";
const ids = { tenantId: "tenant-1", clientId: "client-1" };
const tls = { caFile: fixture("ca.crt") };
const sent = (server: { readonly seen: readonly { readonly headers: Headers }[] }) =>
  server.seen.map(({ headers }) => headers.get("authorization"));

describe("from a file", () => {
  test("a bearer token is read again when it changes, and its absence is told", async () => {
    using directory = openDirectory();
    const bearerFile = directory.file("token");
    await using server = httpServer();
    await using client = web({ url: server.url, auth: { bearerFile } });
    const missing = failed(await post(client));
    expect(missing).toMatchObject({ kind: "again", code: "auth", reason: "auth" });
    expect(missing.message).toBe(`POST ${server.url}: auth.bearerFile ${bearerFile} is not there`);
    for (const token of ["one.token", "another.token"]) {
      writeFileSync(bearerFile, `${token}\n`);
      expect(answered(await post(client)).status).toBe(200);
    }
    writeFileSync(bearerFile, "two words\n");
    expect(failed(await post(client)).message).not.toContain("words");
    writeFileSync(bearerFile, "");
    expect(failed(await post(client)).message).toContain("is empty");
    expect(sent(server)).toEqual(["Bearer one.token", "Bearer another.token"]);
    expect(client.facts().tokenErrors).toBe(3);
  });

  test("a key goes in the header that is named, and nowhere else", async () => {
    using directory = openDirectory();
    const keyFile = directory.file("key");
    writeFileSync(keyFile, "a-key-1\n");
    await using server = httpServer();
    await using client = web({ url: server.url, auth: { apiKey: { header: "X-Api-Key", keyFile } } });
    answered(await post(client));
    expect(
      server.seen.map(({ headers }) => [headers.get("x-api-key"), headers.get("authorization")]),
    ).toEqual([["a-key-1", null]]);
  });

  test("a password keeps its blanks and its letters, but not the end of its line", async () => {
    using directory = openDirectory();
    const passwordFile = directory.file("password");
    writeFileSync(passwordFile, " gehéim: 1 \r\n");
    await using server = httpServer();
    await using client = web({ url: server.url, auth: { basic: { user: "fovea", passwordFile } } });
    answered(await post(client));
    const given = Buffer.from("fovea: gehéim: 1 ", "utf8").toString("base64");
    expect(sent(server)).toEqual([`Basic ${given}`]);
    await using wrong = web({ url: server.url, auth: { basic: { user: "a:b", passwordFile } } });
    expect(failed(await post(wrong)).message).toContain("holds a colon");
  });
});

/** A sink whose tokens come from the endpoint, and the secret in its file. */
function entraRig(endpoint: { readonly host: string }, entra: object = {}) {
  const directory = openDirectory();
  const secretFile = directory.file("secret");
  writeFileSync(secretFile, "s3cret-value\n");
  const given = { kind: "secret", ...ids, secretFile, authorityHost: endpoint.host, ...entra };
  return { ...directory, secretFile, auth: { entra: given } };
}

const discovery = "GET /tenant-1/v2.0/.well-known/openid-configuration";
const granting = "POST /tenant-1/oauth2/v2.0/token";

describe("Entra", () => {
  test("a secret gives a token, once for many requests, and nothing else is asked", async () => {
    await using endpoint = tokenEndpoint();
    await using server = httpServer();
    using rig = entraRig(endpoint);
    const requests = [spyOn(http, "request"), spyOn(https, "request"), spyOn(globalThis, "fetch")];
    await using client = web({ url: server.url, tls, auth: rig.auth });
    expect(server.seen.length + endpoint.seen.length).toBe(0);
    await Promise.all([post(client), post(client), post(client)]);
    answered(await post(client));
    expect(sent(server)).toEqual(Array(4).fill("Bearer t1"));
    expect(endpoint.paths()).toEqual([discovery, granting]);
    expect(requests.map((spy) => spy.mock.calls.length)).toEqual([0, 0, 0]);
    for (const spy of requests) spy.mockRestore();
    expect(endpoint.grants[0]).toMatchObject({
      grant_type: "client_credentials",
      client_id: "client-1",
      client_secret: "s3cret-value",
      scope: "https://monitor.azure.com//.default",
    });
    const { tokenExpiresAt = 0, tokenErrors } = client.facts();
    expect(tokenErrors).toBe(0);
    expect(tokenExpiresAt - Date.now()).toBeWithin(3_500_000, 3_601_000);
  });

  test("a 401 gets a fresh token for the next try, with the secret as it is then", async () => {
    await using endpoint = tokenEndpoint();
    let status = 401;
    await using server = httpServer(() => new Response("", { status }));
    using rig = entraRig(endpoint, { cloud: "china" });
    await using client = web(
      { url: server.url, tls, auth: rig.auth },
      { scope: "https://monitor.azure.com/.default" },
    );
    expect(answered(await post(client)).status).toBe(401);
    writeFileSync(rig.secretFile, "new-secret\n");
    status = 204;
    expect(answered(await post(client)).status).toBe(204);
    expect(sent(server)).toEqual(["Bearer t1", "Bearer t2"]);
    expect(endpoint.grants.map((grant) => grant["client_secret"])).toEqual(["s3cret-value", "new-secret"]);
    expect(endpoint.grants[1]?.["scope"]).toBe("https://monitor.azure.cn/.default");
  });

  test("a certificate signs an assertion that its public key proves", async () => {
    await using endpoint = tokenEndpoint();
    await using server = httpServer();
    const certificateFile = fixture("application.pem");
    using rig = entraRig(endpoint, { kind: "certificate", certificateFile });
    await using client = web({ url: server.url, tls, auth: rig.auth });
    answered(await post(client));
    const [head = "", claims = "", signature = ""] =
      endpoint.grants[0]?.["client_assertion"]?.split(".") ?? [];
    expect(JSON.parse(atob(head)).alg).toBe("PS256");
    const key = createPublicKey(
      new X509Certificate(pem("application.pem")).publicKey.export({ type: "spki", format: "pem" }),
    );
    const pss = { key, padding: 6, saltLength: 32 }; // RSA_PKCS1_PSS_PADDING
    const signed = Buffer.from(`${head}.${claims}`);
    expect(verify("sha256", signed, pss, Buffer.from(signature, "base64url"))).toBe(true);
    expect(sent(server)).toEqual(["Bearer t1"]);
  });

  test("a workload hands in the token of its file, as its environment says", async () => {
    await using endpoint = tokenEndpoint();
    await using server = httpServer();
    using directory = openDirectory();
    writeFileSync(directory.file("federated"), "kubernetes.token.1\n");
    const env = {
      AZURE_TENANT_ID: "tenant-1",
      AZURE_CLIENT_ID: "client-1",
      AZURE_FEDERATED_TOKEN_FILE: directory.file("federated"),
    };
    const auth = { entra: { kind: "workload", authorityHost: endpoint.host } };
    await using client = web({ url: server.url, tls, auth }, { env });
    answered(await post(client));
    expect(endpoint.grants[0]).toMatchObject({
      client_id: "client-1",
      client_assertion: "kubernetes.token.1",
    });
    expect(endpoint.paths()).toEqual([discovery, granting]);
    rmSync(directory.file("federated"));
    await using another = web({ url: server.url, tls, auth }, { env });
    expect(failed(await post(another)).message).toContain(
      `auth.entra.tokenFile ${directory.file("federated")} is not there`,
    );
  });

  test("the endpoint is reached through the proxy of the sink", async () => {
    using proxy = await httpProxy();
    await using endpoint = tokenEndpoint();
    await using server = httpServer();
    using rig = entraRig(endpoint);
    await using client = web(
      { url: server.url, tls, proxy: "env", auth: rig.auth },
      { env: { HTTPS_PROXY: proxy.url } },
    );
    answered(await post(client));
    expect(proxy.heads.map((head) => head.split("\r\n")[0])).toEqual([
      `CONNECT ${new URL(endpoint.host).host} HTTP/1.1`,
    ]);
    expect(endpoint.grants.length).toBe(1);
  });
});

const refusals: readonly (readonly [string, number, object | string, RegExp])[] = [
  [
    "of the secret",
    401,
    {
      error: "invalid_client",
      error_description: "AADSTS7000215: Invalid client secret s3cret-value.\r\nTrace ID: 1",
    },
    /no token from https:\/\/127\.0\.0\.1:\d+\/tenant-1\/oauth2\/v2\.0\/token \(HTTP 401\): invalid_client: AADSTS7000215: Invalid client secret \(hidden\)\./,
  ],
  ["of a broken endpoint", 503, "<h1>oops</h1>", /token \(HTTP 503\): oops$/],
  ["without a token", 200, { token_type: "Bearer", expires_in: 3600 }, /no token from .*\(HTTP 200\): /],
];

describe("Entra without a token", () => {
  test.each(refusals)(
    "tells a refusal %s on one line, without the secret, and counts it",
    async (_, status, said, message) => {
      await using endpoint = tokenEndpoint(() =>
        typeof said === "string" ? new Response(said, { status }) : Response.json(said, { status }),
      );
      await using server = httpServer();
      using rig = entraRig(endpoint);
      await using client = web({ url: server.url, tls, auth: rig.auth });
      const outcome = failed(await post(client));
      expect(outcome).toMatchObject({ kind: "again", code: "auth", reason: "auth" });
      expect(outcome.message).toMatch(message);
      expect(outcome.message).not.toMatch(/s3cret|\n/);
      expect(client.facts()).toEqual({ tokenErrors: 1 });
      expect(server.seen).toEqual([]);
    },
  );

  test("tells an endpoint that is gone, is not trusted, or hangs", async () => {
    using silent = await rawServer(() => undefined);
    await using endpoint = tokenEndpoint();
    const messageFrom = async (host: string, tlsGiven: object, timeoutMs = 5000) => {
      using rig = entraRig({ host });
      await using client = web({ url, tls: tlsGiven, auth: rig.auth }, { timeoutMs });
      const outcome = failed(await post(client));
      expect(outcome.reason).toBe("auth");
      return outcome.message;
    };
    expect(await messageFrom("https://127.0.0.1:1", tls)).toContain(
      "no token: GET https://127.0.0.1:1/tenant-1/v2.0/",
    );
    expect(await messageFrom(endpoint.host, {})).toContain("no trusted authority; set tls.caFile");
    const hanging = await messageFrom(`https://127.0.0.1:${silent.port}`, tls, 300);
    expect(hanging).toMatch(/no token from https:.*: no answer within 0\.2 s$/);
  });

  test.each([
    [{ kind: "secret", secretFile: "/nonexistent" }, "auth.entra.secretFile /nonexistent is not there"],
    [{ kind: "secret", secretFile: undefined }, "auth.entra.secretFile is not set, which kind secret needs"],
    [
      { kind: "certificate", certificateFile: fixture("client.crt") },
      "client.crt holds no private key in PEM",
    ],
    [{ kind: "workload", tenantId: undefined }, "auth.entra.tenantId is not set, which kind workload needs"],
  ])("tells what is missing: %j", async (entra, message) => {
    using rig = entraRig({ host: "https://127.0.0.1:1" }, entra);
    await using client = web({ url, auth: rig.auth });
    expect(failed(await post(client)).message).toContain(message);
  });

  test("lets an abort through", async () => {
    using silent = await rawServer(() => undefined);
    using rig = entraRig({ host: `https://127.0.0.1:${silent.port}` });
    await using client = web({ url, tls, auth: rig.auth });
    const controller = new AbortController();
    const running = post(client, { abort: controller.signal });
    while (silent.connections() === 0) await Bun.sleep(5);
    controller.abort();
    expect(failed(await running)).toMatchObject({ kind: "again", reason: "other" });
  });
});

// The library finds out once a process where it runs: one process a case.
const managedScript = `
  import { post, web } from ${JSON.stringify(join(import.meta.dir, "sink-web.world.ts"))};
  const clientId = process.argv[2] === "" ? {} : { clientId: process.argv[2] };
  const auth = { entra: { kind: "managed", ...clientId } };
  await using client = web({ url: process.argv[1], proxy: "env", auth }, { env: process.env });
  const reply = await post(client);
  console.log(reply.status ?? reply.message);`;

describe("a managed identity", () => {
  const run = async (sinkUrl: string, clientId: string, env: Record<string, string>) => {
    // A proxy that nobody can reach: for a link-local address there is none.
    const proxies = { HTTP_PROXY: "http://127.0.0.1:1", NO_PROXY: `127.0.0.1:${new URL(sinkUrl).port}` };
    const child = Bun.spawn([process.execPath, "-e", managedScript, sinkUrl, clientId], {
      env: { PATH: process.env["PATH"], ...proxies, ...env },
      stderr: "inherit",
    });
    return (await new Response(child.stdout).text()).trim();
  };
  const soon = () => String(Math.floor(Date.now() / 1000) + 3600);
  const issuer = () =>
    httpServer(() =>
      Response.json({ access_token: "m1", expires_on: soon(), token_type: "Bearer", resource: "r" }),
    );

  test("of an app service is asked at IDENTITY_ENDPOINT", async () => {
    await using identity = issuer();
    await using server = httpServer();
    const endpoint = identity.url.replace("/push", "/msi/token");
    expect(await run(server.url, "client-9", { IDENTITY_ENDPOINT: endpoint, IDENTITY_HEADER: "proof" })).toBe(
      "200",
    );
    expect(sent(server)).toEqual(["Bearer m1"]);
    const [asked] = identity.seen;
    expect(identity.seen.length).toBe(1);
    expect(asked?.headers.get("x-identity-header")).toBe("proof");
    expect(Object.fromEntries(new URLSearchParams(asked?.path.split("?")[1]))).toMatchObject({
      resource: "https://monitor.azure.com/",
      client_id: "client-9",
    });
  });

  test("of a virtual machine is asked at its metadata service, once and without a probe", async () => {
    await using identity = issuer();
    await using server = httpServer();
    const host = identity.url.replace("/push", "");
    expect(await run(server.url, "", { AZURE_POD_IDENTITY_AUTHORITY_HOST: host })).toBe("200");
    expect(identity.seen.map(({ path }) => path.split("?")[0])).toEqual(["/metadata/identity/oauth2/token/"]);
    expect(identity.seen[0]?.headers.get("metadata")).toBe("true");
  });

  test("that is not there is told", async () => {
    const told = await run("http://127.0.0.1:9/push", "", {
      AZURE_POD_IDENTITY_AUTHORITY_HOST: "http://127.0.0.1:1",
    });
    expect(told).toContain(
      "no token: GET http://127.0.0.1:1/metadata/identity/oauth2/token/: connection refused",
    );
  });
});

describe("the identity that is meant", () => {
  const entraOf = (given: object) => {
    const { entra } = webConfig({ url, auth: { entra: given } }).auth;
    if (entra === undefined) throw new Error("no entra");
    return entra;
  };
  const cluster = {
    AZURE_TENANT_ID: "t",
    AZURE_CLIENT_ID: "c",
    AZURE_FEDERATED_TOKEN_FILE: "/f",
    AZURE_AUTHORITY_HOST: "https://a/",
  };

  test("is by cloud, and what a webhook left in the environment", () => {
    expect(identityOf(entraOf({ kind: "secret", ...ids, cloud: "usgovernment" }), cluster)).toMatchObject({
      authority: "https://login.microsoftonline.us",
      ...ids,
    });
    expect(identityOf(entraOf({ kind: "secret" }), cluster)).not.toHaveProperty("tenantId");
    const workload = {
      kind: "workload",
      tenantId: "t",
      clientId: "c",
      tokenFile: "/f",
      authority: "https://a",
    };
    expect(identityOf(entraOf({ kind: "workload" }), cluster)).toMatchObject(workload);
    expect(identityOf(entraOf({ kind: "managed" }), cluster)).toMatchObject(workload);
    expect(identityOf(entraOf({ kind: "managed" }), {})).toMatchObject({ kind: "managed" });
    expect(identityOf(entraOf({ kind: "workload", clientId: "x" }), cluster).clientId).toBe("x");
    expect(identityOf(entraOf({ kind: "workload" }), {}).tokenFile).toStartWith(
      "/var/run/secrets/azure/tokens/",
    );
  });

  test("asks for the resource of its cloud", () => {
    expect(scopeIn("public", "https://monitor.azure.com//.default")).toBe(
      "https://monitor.azure.com//.default",
    );
    expect(scopeIn("usgovernment", "https://monitor.azure.com//.default")).toBe(
      "https://monitor.azure.us//.default",
    );
    expect(scopeIn("china", "https://monitor.azure.com/.default")).toBe("https://monitor.azure.cn/.default");
    expect(scopeIn("china", "api://own/.default")).toBe("api://own/.default");
  });

  test("trusts the operator's authority beside the public ones for a cloud, instead of them otherwise", () => {
    const own = { kind: "secret", authorityHost: "https://own.example" };
    expect(openTokenTls(entraOf(own), fixture("ca.crt"))().ca).toEqual([pem("ca.crt")]);
    const both = openTokenTls(entraOf({ kind: "secret" }), fixture("ca.crt"));
    expect(both().ca?.length).toBeGreaterThan(50);
    expect(both().ca).toContain(pem("ca.crt"));
    expect(both()).toBe(both());
    expect(openTokenTls(entraOf({ kind: "secret" }), undefined)()).toEqual({});
  });
});
