// A signer of code for tests: a certificate that vouches for itself, and what its signatures are checked with.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Signing } from "../packaging/windows/sign.ts";

function openssl(...words: readonly string[]): void {
  const done = Bun.spawnSync(["openssl", ...words], { stdio: ["ignore", "ignore", "pipe"] });
  if (done.exitCode !== 0) throw new Error(`openssl ${words[0]} failed: ${done.stderr}`);
}

type SignerOptions = { readonly name?: string; readonly usage?: string; readonly days?: number };

/** For two days; `usage` is what the certificate is for: codeSigning, timeStamping. */
export function makeSigner(directory: string, options: SignerOptions = {}): Signing {
  const { name = "signer", usage = "codeSigning", days = 2 } = options;
  const certificateFile = join(directory, `${name}.pem`);
  const keyFile = join(directory, `${name}.key`);
  openssl(
    ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", String(days)],
    ...["-subj", `/CN=Fovea test ${name}`, "-keyout", keyFile, "-out", certificateFile],
    ...["-addext", "keyUsage=critical,digitalSignature", "-addext", `extendedKeyUsage=critical,${usage}`],
  );
  return { certificateFile, keyFile };
}

/** Whether the signature is whole, of these very bytes, and by this signer; `at` some time, as `authority` stamped it. */
export function signatureHolds(
  path: string,
  signer: Signing,
  stamped?: { readonly authority: Signing; readonly at: Date },
): boolean {
  const { authority = signer, at = new Date() } = stamped ?? {};
  const words = ["verify", "-CAfile", signer.certificateFile, "-TSA-CAfile", authority.certificateFile];
  const time = ["-time", String(Math.floor(at.getTime() / 1000))];
  const command = ["osslsigncode", ...words, ...time, "-in", path];
  // It takes the time of a timestamp for local time.
  const env = { ...process.env, TZ: "UTC" };
  return Bun.spawnSync(command, { env, stdio: ["ignore", "ignore", "ignore"] }).exitCode === 0;
}

/** An authority for timestamps (RFC 3161) on loopback: openssl answers. */
export function openTimestampServer(directory: string, { certificateFile, keyFile }: Signing) {
  const file = (name: string): string => join(directory, name);
  writeFileSync(file("serial"), "01\n");
  const settings = [
    ...["[tsa]", `serial = ${file("serial")}`, `signer_cert = ${certificateFile}`, `signer_key = ${keyFile}`],
    ...["signer_digest = sha256", "default_policy = 1.2.3.4.1", "digests = sha256, sha384, sha512"],
    ...["ess_cert_id_chain = no", "ess_cert_id_alg = sha256", "tsa_name = no"],
  ];
  writeFileSync(file("tsa.cnf"), `${settings.join("\n")}\n`);
  let asked = 0;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => {
      asked++;
      writeFileSync(file("query.tsq"), Buffer.from(await request.arrayBuffer()));
      const paths = ["-queryfile", file("query.tsq"), "-out", file("reply.tsr")];
      openssl("ts", "-reply", "-config", file("tsa.cnf"), "-section", "tsa", ...paths);
      const headers = { "content-type": "application/timestamp-reply" };
      return new Response(readFileSync(file("reply.tsr")), { headers });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}/`,
    asked: (): number => asked,
    [Symbol.dispose]: () => void server.stop(true),
  };
}
