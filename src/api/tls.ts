// The certificate and key that the API is served with, and the authority of its clients: checked before they are used.

import { readCertificates, readKey } from "../sinks/tls-files.ts";

export type Tls = {
  readonly certFile: string;
  readonly keyFile: string;
  /** Clients must show a certificate that this authority signed. */
  readonly clientCaFile?: string;
};

/** Throws a TlsFileError that names key and file. */
export function readTls({ certFile, keyFile, clientCaFile }: Tls): Bun.TLSOptions {
  const certificates = readCertificates("api.tls.certFile", certFile);
  const served = { cert: certificates.pem, key: readKey("api.tls.keyFile", keyFile, certificates) };
  if (clientCaFile === undefined) return served;
  const ca = readCertificates("api.tls.clientCaFile", clientCaFile).pem;
  return { ...served, ca, requestCert: true, rejectUnauthorized: true };
}

/** None where the API is served in the clear. */
export function tlsOf({
  certFile,
  keyFile,
  clientCaFile,
}: {
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly clientCaFile?: string | undefined;
}): Tls | undefined {
  if (certFile === undefined || keyFile === undefined) return undefined;
  return { certFile, keyFile, ...(clientCaFile === undefined ? {} : { clientCaFile }) };
}

export const tlsFilesOf = ({ certFile, keyFile, clientCaFile }: Tls): readonly string[] =>
  [certFile, keyFile, clientCaFile].filter((file) => file !== undefined);
