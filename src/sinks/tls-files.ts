// The certificates and keys of a sink, checked before they are used: TLS itself says little of what is wrong.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { readText } from "../text-file.ts";
import { readReason, whileUnchanged } from "./secret-file.ts";

export type TlsConfig = {
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly serverName?: string | undefined;
};

export type TlsSettings = {
  /** Trusted instead of the public authorities. */
  readonly ca?: readonly string[];
  readonly cert?: string;
  readonly key?: string;
  readonly serverName?: string;
};

/** Names the key and the file; never holds a part of a key. */
export class TlsFileError extends Error {}

function readPem(key: string, file: string): string {
  try {
    return readText(file);
  } catch (error) {
    throw new TlsFileError(`${key} ${file} ${readReason(error)}`, { cause: error });
  }
}

export type Certificates = { readonly pem: string; readonly list: readonly X509Certificate[] };

/** Each certificate of the file, the first first. */
export function readCertificates(key: string, file: string): Certificates {
  const pem = readPem(key, file);
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0)
    throw new TlsFileError(`${key} ${file} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)`);
  try {
    return { pem, list: blocks.map((block) => new X509Certificate(block)) };
  } catch (error) {
    throw new TlsFileError(`${key} ${file} holds a certificate that cannot be read`, { cause: error });
  }
}

/** The private key of the file, which must be that of the certificate. */
export function readKey(key: string, file: string, { list: [leaf] }: Certificates): string {
  const pem = readPem(key, file);
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem))
    throw new TlsFileError(`${key} ${file} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)`);
  if (/ENCRYPTED/.test(pem))
    throw new TlsFileError(`${key} ${file} is encrypted; give a key without a passphrase`);
  let matching: boolean;
  try {
    matching = leaf?.checkPrivateKey(createPrivateKey(pem)) === true;
  } catch {
    // Its cause may hold parts of the key.
    throw new TlsFileError(`${key} ${file} holds a private key that cannot be read`);
  }
  if (!matching) throw new TlsFileError(`${key} ${file} is not the key of the certificate`);
  return pem;
}

function load({ caFile, certFile, keyFile, serverName }: TlsConfig): TlsSettings {
  const ca = caFile === undefined ? {} : { ca: [readCertificates("tls.caFile", caFile).pem] };
  const name = serverName === undefined ? {} : { serverName };
  if (certFile === undefined && keyFile === undefined) return { ...ca, ...name };
  if (certFile === undefined) throw new TlsFileError("tls.keyFile is set without tls.certFile; set both");
  if (keyFile === undefined) throw new TlsFileError("tls.certFile is set without tls.keyFile; set both");
  const certificates = readCertificates("tls.certFile", certFile);
  return {
    ...ca,
    ...name,
    cert: certificates.pem,
    key: readKey("tls.keyFile", keyFile, certificates),
  };
}

/** The same object as long as no file has changed. Throws TlsFileError. */
export function openTlsFiles(config: TlsConfig): () => TlsSettings {
  const files = [config.caFile, config.certFile, config.keyFile].filter((file) => file !== undefined);
  return whileUnchanged(files, () => load(config));
}
