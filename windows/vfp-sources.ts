// Where the counters of the virtual switch can be had from: vfpctrl's JSON, performance counters, vfpctrl's text.

import type { EndpointFacts, SwitchCounters, SwitchSource } from "./counters.ts";
import { indexPorts, portCountersOf } from "./performance-names.ts";
import type { PerformanceReader } from "./performance-thread.ts";
import { decodeOutput, firstLine, SpawnError, type Spawner } from "./spawn.ts";
import { parsePortCountersJson } from "./vfp-json.ts";
import { parsePortCountersText } from "./vfp-text.ts";

export type VfpSource = Exclude<SwitchSource, "hns">;

/** The source is not on this machine, or cannot do what is asked of it: normal, and no failure. */
export class NoSourceError extends Error {}

export type PortEndpoint = EndpointFacts & { readonly port: string };

/** Undefined where the source has nothing of this endpoint. */
export type ReadPort = (endpoint: PortEndpoint) => Promise<SwitchCounters | undefined>;

export type Source = {
  readonly name: VfpSource;
  /** Once a round: what gives the counters of each endpoint in it. */
  begin(signal: AbortSignal): Promise<ReadPort>;
};

const guid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The port becomes an argument of a program: only what is a GUID does. */
export const hasPort = (endpoint: EndpointFacts): endpoint is PortEndpoint =>
  endpoint.port !== undefined && guid.test(endpoint.port);

/** ERROR_INVALID_PARAMETER: versions of vfpctrl before `/format` do not know it. */
const badArgument = 87;

type Tool = {
  readonly name: VfpSource;
  /** Behind those that ask for the counters of a port. */
  readonly options: readonly string[];
  readonly parse: (text: string) => SwitchCounters;
};

const json: Tool = { name: "vfpctrl", options: ["/format", "1"], parse: parsePortCountersJson };
const text: Tool = { name: "vfpctrl-text", options: [], parse: parsePortCountersText };

const file = "vfpctrl.exe";

/** An option that a version does not know may be passed over as well. */
function isText(printed: string): boolean {
  try {
    parsePortCountersText(printed);
    return true;
  } catch {
    return false;
  }
}

async function runTool(
  { name, options, parse }: Tool,
  list: readonly string[],
  run: (list: readonly string[]) => ReturnType<Spawner["run"]>,
): Promise<SwitchCounters> {
  const { exitCode, output, errors } = await run([...list, ...options]).catch((error: unknown) => {
    if (error instanceof SpawnError && error.problem === "missing") throw new NoSourceError(error.message);
    throw error;
  });
  const command = `${file} ${[...list, ...options].join(" ")}`;
  if (exitCode === badArgument && name === "vfpctrl")
    throw new NoSourceError(`${command}: this version has no JSON`);
  if (exitCode !== 0) {
    const said = firstLine(errors) || firstLine(output);
    throw new Error(`${command} ended with ${exitCode}${said === "" ? "" : `: ${said}`}`);
  }
  const printed = decodeOutput(output);
  try {
    return parse(printed);
  } catch (error) {
    if (name === "vfpctrl" && isText(printed))
      throw new NoSourceError(`${command}: this version has no JSON`);
    throw new Error(
      `${command} printed what makes no sense: ${error instanceof Error ? error.message : error}`,
    );
  }
}

function toolSource(tool: Tool, spawner: Spawner, timeoutMs: number): Source {
  const begin = async (signal: AbortSignal): Promise<ReadPort> => {
    const run = (list: readonly string[]) => spawner.run({ file, arguments: list, timeoutMs, signal });
    return ({ port }) => runTool(tool, ["/port", port.toUpperCase(), "/get-port-counter"], run);
  };
  return { name: tool.name, begin };
}

function performanceSource(reader: PerformanceReader): Source {
  const begin = async (signal: AbortSignal): Promise<ReadPort> => {
    const reply = await reader.read(signal);
    if ("absent" in reply) throw new NoSourceError(reply.absent);
    if ("failure" in reply) throw new Error(reply.failure);
    const index = indexPorts(reply.ports);
    return (endpoint) => Promise.resolve(portCountersOf(index, endpoint));
  };
  return { name: "performance-counters", begin };
}

/** The preferred one first. */
export const vfpSources = (options: {
  readonly spawner: Spawner;
  readonly performance: PerformanceReader;
  readonly timeoutMs: number;
}): readonly Source[] => [
  toolSource(json, options.spawner, options.timeoutMs),
  performanceSource(options.performance),
  toolSource(text, options.spawner, options.timeoutMs),
];
