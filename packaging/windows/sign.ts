// Signs what Windows runs, executable and installer: Authenticode, by osslsigncode, with certificate and key from files.
// `bun packaging/windows/sign.ts FILE ...` with FOVEA_SIGN_CERTIFICATE and FOVEA_SIGN_KEY in the environment.

import { renameSync, rmSync } from "node:fs";

export type Signing = {
  /** PEM: the signer's certificate, then those between it and the root. */
  readonly certificateFile: string;
  /** PEM or DER. */
  readonly keyFile: string;
  /** Of the key. A file, because every process of the machine sees a command line. */
  readonly passwordFile?: string;
  /** RFC 3161. Without a timestamp a signature ends with its certificate. */
  readonly timestampUrl?: string;
};

/** Undefined where the environment names neither certificate nor key. */
export function signingOf(env: Readonly<Record<string, string | undefined>>): Signing | undefined {
  const { FOVEA_SIGN_CERTIFICATE: certificateFile = "", FOVEA_SIGN_KEY: keyFile = "" } = env;
  const { FOVEA_SIGN_PASSWORD_FILE: passwordFile = "", FOVEA_SIGN_TIMESTAMP_URL: timestampUrl = "" } = env;
  if (certificateFile === "" && keyFile === "") return undefined;
  if (certificateFile === "" || keyFile === "")
    throw new Error("signing needs both, FOVEA_SIGN_CERTIFICATE and FOVEA_SIGN_KEY");
  return {
    certificateFile,
    keyFile,
    ...(passwordFile === "" ? {} : { passwordFile }),
    ...(timestampUrl === "" ? {} : { timestampUrl }),
  };
}

export function signCommand(signing: Signing, input: string, output: string): readonly string[] {
  const { certificateFile, keyFile, passwordFile, timestampUrl } = signing;
  return [
    ...["osslsigncode", "sign", "-h", "sha256", "-n", "Fovea"],
    ...["-certs", certificateFile, "-key", keyFile],
    ...(passwordFile === undefined ? [] : ["-readpass", passwordFile]),
    ...(timestampUrl === undefined ? [] : ["-ts", timestampUrl]),
    ...["-in", input, "-out", output],
  ];
}

/** Replaces the file by the signed one; a failure leaves it as it was. */
export function sign(path: string, signing: Signing): void {
  const signed = `${path}.signed`;
  rmSync(signed, { force: true }); // osslsigncode writes over nothing.
  const done = Bun.spawnSync([...signCommand(signing, path, signed)], { stdout: "pipe", stderr: "pipe" });
  if (done.exitCode !== 0) {
    rmSync(signed, { force: true });
    const said = `${done.stdout}${done.stderr}`.trim().split("\n").join("; ");
    throw new Error(`${path} cannot be signed with ${signing.keyFile} (${done.exitCode}): ${said}`);
  }
  renameSync(signed, path);
}

function main(paths: readonly string[]): void {
  const signing = signingOf(process.env);
  if (signing === undefined)
    throw new Error("FOVEA_SIGN_CERTIFICATE and FOVEA_SIGN_KEY name the files to sign with");
  if (paths.length === 0) throw new Error("usage: bun packaging/windows/sign.ts FILE ...");
  for (const path of paths) {
    sign(path, signing);
    console.log(`signed: ${path}`);
  }
}

if (import.meta.main)
  try {
    main(process.argv.slice(2));
  } catch (error) {
    console.error(`sign: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
