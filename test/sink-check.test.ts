// What a check of the configuration finds in the files and the credentials of a sink.

import { describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { checkSinkFiles } from "../src/sinks/check.ts";
import { sinkSchema } from "../src/sinks/schema.ts";
import { fixture, openDirectory, pem, webConfig } from "./sink-web.world.ts";

const url = "https://up.example/push";
const now = Date.UTC(2027, 0, 1);
const check = (given: object, more: { env?: Record<string, string>; now?: number } = {}) =>
  checkSinkFiles(webConfig({ url, ...given }), { env: {}, now, ...more }).map(
    ({ key, message }) => `${key}: ${message}`,
  );

/** Files that nobody else may read. */
function openSecrets() {
  const directory = openDirectory();
  const write = (name: string, content: string, mode = 0o600) => {
    const path = directory.file(name);
    writeFileSync(path, content);
    chmodSync(path, mode);
    return path;
  };
  const copy = (name: string, mode = 0o600) => write(name, pem(name), mode);
  return { ...directory, write, copy };
}

test("a sink without files, and one that writes files, is right", () => {
  expect(check({})).toEqual([]);
  expect(checkSinkFiles(sinkSchema.parse({ name: "f", type: "file", directory: "/nonexistent" }))).toEqual(
    [],
  );
});

describe("TLS", () => {
  test("authority, certificate and key that fit are right", () => {
    using secrets = openSecrets();
    const keyFile = secrets.copy("client.key");
    const tls = { caFile: fixture("ca.crt"), certFile: fixture("client.crt"), keyFile };
    expect(check({ tls })).toEqual([]);
  });

  test("files that are not there, are none, or do not fit are told", () => {
    using secrets = openSecrets();
    const keyFile = secrets.copy("stranger.key");
    const certFile = fixture("client.crt");
    expect(check({ tls: { caFile: "/nonexistent", certFile, keyFile } })).toEqual([
      "tls.caFile: /nonexistent is not there",
      `tls.keyFile: ${keyFile} is not the key of the certificate`,
    ]);
    const caFile = secrets.write("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect(check({ tls: { caFile } })).toEqual([
      `tls.caFile: ${caFile} holds a certificate that cannot be read`,
    ]);
    expect(check({ tls: { caFile: keyFile } })[0]).toContain("holds no certificate in PEM");
    expect(check({ tls: { caFile: secrets.file("") } })[0]).toContain("is a directory");
  });

  test("one of certificate and key is not enough", () => {
    expect(check({ tls: { certFile: fixture("client.crt") } })).toEqual([
      "tls.keyFile: is not set, but tls.certFile is; set both or none",
    ]);
    expect(check({ tls: { keyFile: fixture("client.key") } })).toEqual([
      "tls.certFile: is not set, but tls.keyFile is; set both or none",
    ]);
  });

  test("a broken, an encrypted and an open key is told", () => {
    using secrets = openSecrets();
    const certFile = fixture("client.crt");
    const keyed = (keyFile: string) => check({ tls: { certFile, keyFile } });
    expect(keyed(secrets.write("a", "rubbish"))[0]).toContain("holds no private key in PEM");
    const broken = secrets.write("b", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    expect(keyed(broken)).toEqual([`tls.keyFile: ${broken} holds a private key that cannot be read`]);
    const encrypted = secrets.write("c", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
    expect(keyed(encrypted)[0]).toContain("is encrypted; give a key without a passphrase");
    const open = secrets.copy("client.key", 0o644);
    expect(keyed(open)).toEqual([
      `tls.keyFile: ${open} is open to every user of this machine; run: chmod o-rwx ${open}`,
    ]);
  });

  test("a certificate that has expired, or is not valid yet, is told; of authorities only when none is left", () => {
    using secrets = openSecrets();
    const keyFile = secrets.copy("client.key");
    const certFile = fixture("client.crt");
    const tls = { caFile: fixture("ca.crt"), certFile, keyFile };
    expect(check({ tls }, { now: Date.UTC(2200, 0, 1) })).toEqual([
      `tls.caFile: all certificates in ${fixture("ca.crt")} have expired`,
      `tls.certFile: the certificate in ${certFile} expired on 2126-10-28`,
    ]);
    expect(check({ tls }, { now: Date.UTC(2020, 0, 1) })).toEqual([
      `tls.certFile: the certificate in ${certFile} is not valid before 2026-11-21`,
    ]);
  });
});

describe("secrets", () => {
  test("a token or a password that can be read by its owner is right", () => {
    using secrets = openSecrets();
    expect(check({ auth: { bearerFile: secrets.write("token", "abc.def\n") } })).toEqual([]);
    expect(check({ auth: { apiKey: { header: "X-Key", keyFile: secrets.write("key", "abc") } } })).toEqual(
      [],
    );
    expect(check({ auth: { apiKey: { header: "X-Key", keyFile: "/nonexistent" } } })).toEqual([
      "auth.apiKey.keyFile: /nonexistent is not there",
    ]);
    expect(check({ auth: { basic: { user: "u", passwordFile: secrets.write("p", "x y", 0o640) } } })).toEqual(
      [],
    );
  });

  test("what cannot be used is told, without its content", () => {
    using secrets = openSecrets();
    const bearer = (content: string, mode?: number) =>
      check({ auth: { bearerFile: secrets.write("token", content, mode) } });
    expect(check({ auth: { bearerFile: "/nonexistent" } })).toEqual([
      "auth.bearerFile: /nonexistent is not there",
    ]);
    expect(bearer("two words")).toEqual([
      `auth.bearerFile: ${secrets.file("token")} holds spaces or characters that an HTTP header cannot carry`,
    ]);
    expect(bearer("\n")[0]).toContain("is empty");
    expect(bearer("abc", 0o604)[0]).toContain("is open to every user of this machine");
    expect(bearer("a".repeat(70_000))[0]).toContain("is it a secret?");
    const passwordFile = secrets.write("p", "x");
    expect(check({ auth: { basic: { user: "a:b", passwordFile } } })).toEqual([
      "auth.basic.user: holds a colon, which would end it (RFC 7617)",
    ]);
  });

  test("two kinds at once are one too many", () => {
    using secrets = openSecrets();
    const bearerFile = secrets.write("token", "abc");
    const auth = { bearerFile, basic: { user: "u", passwordFile: bearerFile } };
    expect(check({ auth })).toEqual(["auth: has auth.bearerFile and auth.basic; keep one of them"]);
  });

  test("do not go to another machine without TLS", () => {
    using secrets = openSecrets();
    const auth = { bearerFile: secrets.write("token", "abc") };
    const to = (target: string) => check({ url: target, auth });
    const told =
      "url: would send the credentials to up.example:3100 without TLS; write https://, or drop auth";
    expect(to("http://up.example:3100/push?x=1")).toEqual([told]);
    for (const near of ["http://127.0.0.1:3100/", "http://localhost/", "http://[::1]:3100/"])
      expect(to(near)).toEqual([]);
    expect(check({ url: "http://up.example/" })).toEqual([]);
  });
});

describe("Entra", () => {
  const entra = (given: object, env: Record<string, string> = {}) =>
    check({ auth: { entra: given } }, { env });
  const ids = { tenantId: "t", clientId: "c" };

  test("what each kind needs is told when it is missing", () => {
    expect(entra({ kind: "secret" })).toEqual(
      ["tenantId", "clientId", "secretFile"].map(
        (key) => `auth.entra.${key}: is not set, but kind secret needs it`,
      ),
    );
    expect(entra({ kind: "certificate", tenantId: "t" })).toEqual(
      ["clientId", "certificateFile"].map(
        (key) => `auth.entra.${key}: is not set, but kind certificate needs it`,
      ),
    );
    expect(entra({ kind: "workload", tokenFile: "/nonexistent" })).toEqual([
      "auth.entra.tenantId: is not set, and neither is AZURE_TENANT_ID, but kind workload needs it",
      "auth.entra.clientId: is not set, and neither is AZURE_CLIENT_ID, but kind workload needs it",
      "auth.entra.tokenFile: /nonexistent is not there",
    ]);
    expect(entra({ kind: "managed" })).toEqual([]);
  });

  test("what is there is right", () => {
    using secrets = openSecrets();
    expect(entra({ kind: "secret", ...ids, secretFile: secrets.write("s", "x") })).toEqual([]);
    expect(entra({ kind: "certificate", ...ids, certificateFile: secrets.copy("application.pem") })).toEqual(
      [],
    );
    const env = {
      AZURE_TENANT_ID: "t",
      AZURE_CLIENT_ID: "c",
      AZURE_FEDERATED_TOKEN_FILE: secrets.write("f", "x", 0o644),
    };
    expect(entra({ kind: "workload" }, env)).toEqual([]);
  });

  test("its files are read", () => {
    using secrets = openSecrets();
    expect(entra({ kind: "secret", ...ids, secretFile: secrets.write("s", "x", 0o644) })[0]).toContain(
      "is open to every user",
    );
    expect(entra({ kind: "certificate", ...ids, certificateFile: fixture("client.crt") })).toEqual([
      `auth.entra.certificateFile: ${fixture("client.crt")} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)`,
    ]);
    const both = secrets.file("ec.pem");
    copyFileSync(fixture("client.crt"), both);
    writeFileSync(both, pem("client.crt") + pem("client.key"), { mode: 0o600 });
    chmodSync(both, 0o600);
    expect(entra({ kind: "certificate", ...ids, certificateFile: both })).toEqual([
      `auth.entra.certificateFile: the key in ${both} is ec; Entra takes RSA alone`,
    ]);
  });

  test("its secret goes over TLS alone", () => {
    using secrets = openSecrets();
    const secretFile = secrets.write("s", "x");
    expect(entra({ kind: "secret", ...ids, secretFile, authorityHost: "http://127.0.0.1/" })).toEqual([
      "auth.entra.authorityHost: is no https:// URL, and secrets go there",
    ]);
  });
});

test("a proxy of the environment that is none is told without its password", () => {
  const env = { HTTPS_PROXY: "socks5://u:hunter2@h:1" };
  const told = checkSinkFiles(webConfig({ url, proxy: "env" }), { env, now });
  expect(told.map(({ key }) => key)).toEqual(["proxy"]);
  expect(JSON.stringify(told)).not.toContain("hunter2");
  expect(check({ proxy: "none" }, { env })).toEqual([]);
});

test("a token that says that it is over is told; one that does not say, or is valid, is right", () => {
  using secrets = openSecrets();
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (exp?: number) =>
    secrets.write(
      `token-${exp}`,
      `${part({ alg: "RS256" })}.${part({ ...(exp === undefined ? {} : { exp }) })}.c2ln`,
    );
  const over = token(now / 1000 - 60);
  expect(check({ auth: { bearerFile: over } })).toEqual([
    `auth.bearerFile: the token in ${over} expired at 2026-12-31T23:59:00.000Z`,
  ]);
  const workload = { kind: "workload", tenantId: "t", clientId: "c", tokenFile: over };
  expect(check({ auth: { entra: workload } })[0]).toStartWith("auth.entra.tokenFile: the token in");
  expect(check({ auth: { bearerFile: token(now / 1000 + 60) } })).toEqual([]);
  expect(check({ auth: { bearerFile: token() } })).toEqual([]);
  expect(check({ auth: { bearerFile: secrets.write("opaque", "a.b.c") } })).toEqual([]);
});
