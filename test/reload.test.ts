// A changed configuration is taken over while fovea runs: what it does not speak of goes on as it was.

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { played, recording, start, statusOf, temporaryDirectory, ticks } from "./run.world.ts";
import { makeSigner } from "./signing.rig.ts";

test("a changed file is applied, a bad one changes nothing and is told everywhere", async () => {
  await using directory = temporaryDirectory();
  const config = directory.file("fovea.yaml", "cluster: first\n");
  const args = [
    "--config",
    config,
    "--data-dir",
    join(directory.path, "data"),
    "--replay",
    recording(directory),
  ];
  await using fovea = start(args);
  const url = await fovea.url();
  const { ticks: before } = await played(url);
  writeFileSync(config, "cluster: second\n");
  await fovea.logged("the changed configuration is in force");
  const live = await statusOf(url);
  expect(live).toMatchObject({ cluster: "second", config: { reloaded: 1, refused: 0 } });
  expect(live.ticks).toBeGreaterThan(before); // The same parts go on.
  writeFileSync(config, "cluster: third\nclustr: x\n");
  const { problems } = await fovea.logged("is refused");
  expect(problems).toContain(`${config}:2`);
  const bad = await statusOf(url);
  expect(bad).toMatchObject({ cluster: "second", config: { reloaded: 1, refused: 1 } });
  expect(bad.warnings[0]).toContain("clustr");
  expect(await (await fetch(`${url}/metrics`)).text()).toMatch(
    /^fovea_config_reloads_total\{result="refused"\} 1$/m,
  );
  writeFileSync(config, "cluster: fourth\nflows:\n  idle: 5s\n");
  const { url: again = "" } = await fovea.logged("its parts were opened anew");
  expect(await statusOf(again)).toMatchObject({ cluster: "fourth", config: { reloaded: 2, problems: [] } });
  writeFileSync(config, "cluster: fifth\napi:\n  tokenFile: /nonexistent\n");
  await fovea.logged("is refused");
  for (;;) {
    const last = fovea.lines.filter(({ message }) => message.includes("is refused"));
    if (last.length === 2) break;
    await Bun.sleep(10);
  }
  expect((await fovea.stop()).code).toBe(0);
});

const scraped = async (url: string, series: string): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(series));
  return Number(line?.split(" ").at(-1) ?? Number.NaN);
};

const ingress = /^kappie_forward_count\{.*Direction="ingress".*\} 30$/m;

test("what observes goes on through a change of other keys: nothing is counted anew, and no port closes", async () => {
  await using directory = temporaryDirectory();
  const config = directory.file("fovea.yaml", "cluster: first\n");
  const dataDir = join(directory.path, "data");
  await using fovea = start(["--config", config, "--data-dir", dataDir, "--replay", recording(directory)]);
  const url = await fovea.url();
  await played(url);
  const held = await fetch(`${url}/healthz`, { keepalive: true });
  expect(held.status).toBe(200);
  writeFileSync(config, "cluster: first\nstore:\n  ageMax: 6d\nflowLog: {enabled: false}\n");
  const { url: again } = await fovea.logged("its parts were opened anew");
  expect(again).toBe(url); // It listens on any port that is free, and would have another one.
  await fovea.ticked(url);
  expect(await (await fetch(`${url}/metrics`)).text()).toMatch(ingress);
  // A recording that began again would add its packets and its rows once more.
  expect(await scraped(url, "fovea_packets_seen_total")).toBe(10 * ticks);
  expect((await statusOf(url)).store.rows).toBe(2 * ticks);
});

test("a change of what is observed opens that anew", async () => {
  await using directory = temporaryDirectory();
  const config = directory.file("fovea.yaml", "flows: {idle: 9s}\n");
  const dataDir = join(directory.path, "data");
  await using fovea = start(["--config", config, "--data-dir", dataDir, "--replay", recording(directory)]);
  const url = await fovea.url();
  await played(url);
  writeFileSync(config, "flows: {idle: 8s}\n");
  await fovea.logged("its parts were opened anew");
  await played(url);
  expect((await statusOf(url)).store.rows).toBe(4 * ticks);
});

test("the log changes its form", async () => {
  await using directory = temporaryDirectory();
  const config = directory.file("fovea.yaml", "log: {format: json}\n");
  const dataDir = join(directory.path, "data");
  await using fovea = start(["--config", config, "--data-dir", dataDir, "--replay", recording(directory)]);
  await fovea.url();
  writeFileSync(config, "log: {format: text}\n");
  const { message } = await fovea.logged("the changed configuration is in force");
  expect(message).toMatch(/^\d{4}-\S+Z INFO {2}the changed configuration is in force$/);
});

/** The subject of the certificate that is served. */
const subjectAt = (url: string): Promise<string> => {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
    resolve(String(socket.getPeerCertificate().subject.CN));
    socket.destroy();
  });
  socket.on("error", reject);
  return promise;
};

test("a certificate that was replaced is served, and one that does not fit its key is refused with its key", async () => {
  await using directory = temporaryDirectory();
  const [first, second] = ["first", "second"].map((name) =>
    makeSigner(directory.path, { name, usage: "serverAuth" }),
  );
  if (first === undefined || second === undefined) throw new Error("no certificates");
  const certFile = directory.file("served.pem", readFileSync(first.certificateFile, "utf8"));
  const keyFile = directory.file("served.key", readFileSync(first.keyFile, "utf8"));
  const config = directory.file(
    "fovea.yaml",
    `api:\n  tls:\n    certFile: ${certFile}\n    keyFile: ${keyFile}\n`,
  );
  const dataDir = join(directory.path, "data");
  await using fovea = start(["--config", config, "--data-dir", dataDir, "--replay", recording(directory)]);
  const url = await fovea.url();
  expect(await subjectAt(url)).toBe("Fovea test first");
  writeFileSync(certFile, readFileSync(second.certificateFile));
  const { problems } = await fovea.logged("is refused");
  expect(problems).toContain(`${config}:4: api.tls.keyFile`);
  expect(problems).toContain("is not the key of the certificate");
  expect(await subjectAt(url)).toBe("Fovea test first");
  writeFileSync(keyFile, readFileSync(second.keyFile));
  const { url: again = "" } = await fovea.logged("its parts were opened anew");
  expect(await subjectAt(again)).toBe("Fovea test second");
});
