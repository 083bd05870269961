// The door to the API: where it listens, who may come in, and who answers. It stays open while its keys stay.

import { createHash } from "node:crypto";
import { checkExposure, openToken, type Token } from "./api/auth.ts";
import { openServer, resolveHost, type Server } from "./api/server.ts";
import { tlsFilesOf, tlsOf } from "./api/tls.ts";
import type { Config } from "./config-schema.ts";
import { printListen } from "./config-units.ts";
import { createKept, type Kept } from "./kept.ts";
import { errorText, type Log } from "./log.ts";
import { readText } from "./text-file.ts";

type DoorConfig = Pick<Config, "listen" | "api">;

type Handler = (request: Request) => Response | Promise<Response>;

export type Door = {
  readonly address: string;
  readonly token?: Token;
  readonly server: Server;
  /** From now on this one answers; without one, that fovea is starting. */
  answer(handler?: Handler): void;
};

const starting: Handler = () =>
  Response.json(
    { error: { message: "fovea is starting" } },
    { status: 503, headers: { "Retry-After": "1" } },
  );

/** Nothing of a key is kept but its digest. */
function contentOf(file: string): string {
  try {
    return createHash("sha256").update(readText(file)).digest("hex");
  } catch {
    return "cannot be read"; // Who opens the door says why.
  }
}

/** Certificates are replaced under their names: other bytes are another door. */
function keyOfDoor({ listen, api }: DoorConfig): unknown {
  const tls = tlsOf(api.tls);
  const versions = tls === undefined ? [] : tlsFilesOf(tls).map(contentOf);
  const { connectionsMax, bodyMax, tokenFile } = api;
  return { listen, tls, versions, connectionsMax, bodyMax, tokenFile };
}

/** Checked by the address that the name stands for now: the configuration knows only the name. */
async function openDoor({ listen, api }: DoorConfig): Promise<Door> {
  const address = await resolveHost(listen);
  const token = api.tokenFile === undefined ? {} : { token: openToken(api.tokenFile) };
  const mutualTls = api.tls.clientCaFile !== undefined;
  checkExposure({ listen: printListen(listen), address, token: api.tokenFile !== undefined, mutualTls });
  const tls = tlsOf(api.tls);
  let handler = starting;
  const server = await openServer({
    listen,
    address,
    fetch: (request) => handler(request),
    connectionsMax: api.connectionsMax,
    bodyBytesMax: api.bodyMax,
    ...(tls === undefined ? {} : { tls }),
  });
  return {
    address,
    ...token,
    server,
    answer: (next = starting) => {
      handler = next;
    },
  };
}

export type DoorKeeper = Kept<DoorConfig, Door>;

export const keepDoor = ({ log }: { readonly log: Log }): DoorKeeper =>
  createKept<DoorConfig, Door>({
    keyOf: keyOfDoor,
    open: openDoor,
    close: async ({ server }) => {
      try {
        await server[Symbol.asyncDispose]();
      } catch (error) {
        log.error("the API did not close", { error: errorText(error) });
      }
    },
  });
