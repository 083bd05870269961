// Where things are on this machine when nobody says otherwise.

import type { Env } from "./config.ts";

export type Places = {
  readonly configFile: string;
  readonly dataDir: string;
  readonly flowLogFile: string;
  /** Where a configuration map of Container Insights is mounted, if there is one. */
  readonly agentConfigDir: string;
};

const unix: Places = {
  configFile: "/etc/fovea/fovea.yaml",
  dataDir: ".fovea",
  flowLogFile: "/var/log/fovea/flows.log",
  agentConfigDir: "/etc/config/settings",
};

/** A variable that holds no absolute path on a drive would lead to wherever the process was started. */
const absoluteOr = (path: string | undefined, fallback: string): string =>
  /^[A-Za-z]:\\/.test(path ?? "") ? (path ?? fallback).replace(/\\+$/, "") : fallback;

/**
 * A service starts in System32, so that no place may be relative. Nor is any at the top of a drive, where every user
 * may make directories: a pod that has a configuration map mounted names its place.
 */
function windowsPlaces(env: Env): Places {
  const home = `${absoluteOr(env["ProgramData"], "C:\\ProgramData")}\\Fovea`;
  return {
    configFile: `${home}\\fovea.yaml`,
    dataDir: `${home}\\data`,
    flowLogFile: `${home}\\flows.log`,
    agentConfigDir: `${home}\\settings`,
  };
}

export const placesOf = (platform: NodeJS.Platform, env: Env): Places =>
  platform === "win32" ? windowsPlaces(env) : unix;

export const places: Places = placesOf(process.platform, process.env);
