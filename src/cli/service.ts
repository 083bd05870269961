// fovea service: this program as a service of Windows, which the service manager starts, stops and starts again.

import { resolve } from "node:path";
import type { Command } from "commander";
import { flag, outputFlag } from "./flags.ts";
import { printJson, printLines } from "./output.ts";
import { addRunFlags, configSource, type RunOptions, runAppliance } from "./run.ts";
import type { ServiceFacts, ServiceProcess, Services, World } from "./world.ts";

type Open = () => Promise<Services>;

const opener =
  ({ openServices }: World): Open =>
  () => {
    if (openServices !== undefined) return openServices();
    throw new Error(
      "services are of Windows alone: here the service manager of the system runs fovea run, as by " +
        "packaging/systemd/fovea.service",
    );
  };

/** The working directory of a service is another than ours: its paths begin at the root. */
function serviceArguments({ config, dataDir, listen, replay, replayLoop }: RunOptions): readonly string[] {
  const path = (name: string, given: string | undefined) =>
    given === undefined ? [] : [name, resolve(given)];
  return [
    ...["service", "run"],
    ...path("--config", config),
    ...path("--data-dir", dataDir),
    ...(listen === undefined ? [] : ["--listen", listen]),
    ...path("--replay", replay),
    ...(replayLoop === true ? ["--replay-loop"] : []),
  ];
}

type InstallFlags = RunOptions & { takeOver?: boolean };

async function install({ out }: World, open: Open, options: InstallFlags): Promise<void> {
  const services = await open();
  // One that could not start is not installed. The variables of this user are not those of the service.
  const { file, load } = configSource({ env: {} }, options);
  const configFile = resolve(file);
  services.checkInstall(configFile);
  const { dataDir } = load({ starting: true }).config;
  const args = serviceArguments(options);
  const unset = await services.install({ args, configFile, dataDir, takeOver: options.takeOver === true });
  await printLines(out, [
    "Fovea is installed and starts with Windows; start it now: fovea service start",
    ...unset.map((what) => `but ${what}`),
  ]);
}

async function uninstall({ out }: World, open: Open): Promise<void> {
  const was = await (await open()).uninstall();
  await printLines(out, [
    was
      ? "Fovea is uninstalled as a service; its store, logs and configuration stay"
      : "Fovea is not installed as a service; there is nothing to do",
  ]);
}

const stateText = ({ state, pid, exitCode }: ServiceFacts): string => {
  const process = pid === undefined ? "" : `, process ${pid}`;
  const code = exitCode === 0 ? "" : `, exit code ${exitCode}`;
  return `${state}${process}${code}`;
};

/** Drives the service to a state, and says what became of it. */
async function drive(
  { out }: World,
  open: Open,
  { verb, wanted }: { readonly verb: "start" | "stop"; readonly wanted: string },
): Promise<void> {
  const services = await open();
  const facts = await services[verb]();
  if (facts.state !== wanted)
    throw new Error(
      `the service does not ${verb}, it is ${stateText(facts)}: see the event log (source Fovea) and ${services.logFile}`,
    );
  await printLines(out, [`Fovea is ${stateText(facts)}`]);
}

function runService(
  world: World,
  { checkConfigFile }: Services,
  { stop, notifier, write, running }: ServiceProcess,
  options: RunOptions,
): Promise<void> {
  const err = { write: async (text: string) => write(text), colours: false };
  return runAppliance({ ...world, stop, notifier, err }, options, {
    checkConfigFile,
    write,
    configured: running,
  });
}

export function addService(program: Command, world: World, finish: (code: number) => void): void {
  const verb = program.command("service").description("fovea as a service of Windows");
  const open = opener(world);
  addRunFlags(verb.command("install").description("make the service, which then starts with Windows"))
    .addOption(
      flag("--take-over", "set the service that is there right instead of refusing", "FOVEA_TAKE_OVER"),
    )
    .action((options: InstallFlags) => install(world, open, options));
  verb
    .command("uninstall")
    .description("stop the service and delete it; the store stays")
    .action(() => uninstall(world, open));
  verb
    .command("start")
    .description("start the service and wait until it runs")
    .action(() => drive(world, open, { verb: "start", wanted: "running" }));
  verb
    .command("stop")
    .description("stop the service and wait until it has kept its last rows")
    .action(() => drive(world, open, { verb: "stop", wanted: "stopped" }));
  verb
    .command("status")
    .description("print the state of the service; exit 0 when it runs")
    .addOption(outputFlag("text or json", ["text", "json"]))
    .action(async ({ output }: { output: string }) => {
      const facts = (await open()).status();
      finish(facts.state === "running" ? 0 : 1);
      if (output === "json") await printJson(world.out, facts);
      else await printLines(world.out, [`Fovea is ${stateText(facts)}`]);
    });
  addRunFlags(verb.command("run").description("what the service manager starts; not for a console")).action(
    async (options: RunOptions) => {
      const services = await open();
      finish(await services.serve((service) => runService(world, services, service, options)));
    },
  );
}
