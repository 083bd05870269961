// The binary alone in a root that has nothing but the C library: it runs, and opens no library of that root besides.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

const root = join(import.meta.dir, "..");
const binary = join(root, "dist/fovea");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** What the program interpreter of the binary finds on each machine that can run Bun. */
const cLibrary = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"];

setDefaultTimeout(60_000);

let empty = "";
beforeAll(() => {
  empty = mkdtempSync(join(tmpdir(), "fovea-empty-root-"));
  chmodSync(empty, 0o755);
  for (const directory of ["proc", "sys", "dev", "tmp", "data", "usr"]) mkdirSync(join(empty, directory));
  copyFileSync(binary, join(empty, "fovea"));
  const listed = Bun.spawnSync(["ldd", binary]).stdout.toString();
  const paths = [...listed.matchAll(/(\/\S+\.so[.\d]*)/g)].flatMap(([, path]) => path ?? []);
  const names = paths.map((path) => basename(path)).filter((name) => !name.startsWith("ld-"));
  expect(new Set(names)).toEqual(new Set(cLibrary));
  for (const path of paths) {
    mkdirSync(dirname(join(empty, path)), { recursive: true });
    cpSync(realpathSync(path), join(empty, path));
  }
  writeFileSync(join(empty, "dev/null"), "");
  writeFileSync(join(empty, "recording.ndjson"), recording());
});
afterAll(() => {
  rmSync(empty, { recursive: true });
  // systemd-nspawn leaves this behind when no system manager runs.
  const left = join("/run/systemd/nspawn/propagate", basename(empty));
  if (existsSync(left)) rmdirSync(left);
});

/** Two ticks of one collector. */
function recording(): string {
  const tick = (atMs: number, packets: number) => ({
    atMs,
    snapshots: {
      flows: {
        totals: {
          uplinks: ["eth0"],
          forward: { ingress: { packets, bytes: packets * 100 }, egress: { packets: 1, bytes: 60 } },
          tcpFlags: [],
        },
      },
    },
  });
  return `${[tick(0, 5), tick(1000, 7)].map((line) => JSON.stringify(line)).join("\n")}\n`;
}

/**
 * Runs a script in mount, process and network namespaces of its own: "$1" is the root, with /proc, /sys and /dev/null,
 * and the network has a loopback and a pair of interfaces, up, one of them the way out.
 */
function inNamespaces(script: string, ...words: readonly string[]) {
  const prepare = `
    set -e
    ip link set lo up
    ip link add fa type veth peer name fb
    ip link set fa up
    ip link set fb up
    ip route add default dev fa
    mount -t proc proc "$1/proc"
    mount -t sysfs sys "$1/sys"
    mount --bind /dev/null "$1/dev/null"
    set +e
    `;
  const namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const done = Bun.spawnSync([...namespaces, "sh", "-c", prepare + script, "sh", empty, ...words], {
    env: { PATH: process.env["PATH"] ?? "", NO_COLOR: "1" },
  });
  return { exitCode: done.exitCode, out: done.stdout.toString(), errors: done.stderr.toString() };
}

test("answers version", () => {
  const { out, errors } = inNamespaces('chroot "$1" /fovea version');
  expect(errors).toBe("");
  expect(out).toStartWith(`fovea ${version}`);
});

test("loads and attaches everything, and opens no library of the root but the C library", () => {
  const trace = join(empty, "trace");
  const { out, errors, exitCode } = inNamespaces(
    'strace -f -qq -e trace=open,openat,openat2,execve -o "$1/trace" chroot "$1" /fovea check -o json',
  );
  const answer = JSON.parse(out);
  expect({ errors, exitCode, missing: answer.collectors.filter(({ ok }: { ok: boolean }) => !ok) }).toEqual({
    errors: "",
    exitCode: 0,
    missing: [],
  });
  expect(new Set(answer.attached)).toEqual(new Set(["fa", "fb"]));
  const lines = readFileSync(trace, "utf8").split("\n");
  const started = lines.findIndex((line) => line.includes('execve("/fovea"'));
  const opened = lines.slice(started + 1).flatMap((line) => /"([^"]+)".*= \d+$/.exec(line)?.[1] ?? []);
  expect(opened.length).toBeGreaterThan(10);
  const native = opened
    .filter((path) => /\.(so|o|node)\b/.test(basename(path)))
    .map((path) => basename(path));
  expect(new Set(native)).toEqual(new Set(cLibrary));
  const fromMemory = new Set(opened.filter((path) => /^\/proc\/self\/fd\/\d+$/.test(path)));
  expect(fromMemory.size).toBeGreaterThanOrEqual(3);
});

// Polls from outside the root, inside its network, until the appliance is ready; then prints that and its scrape.
const scrape = `
  const get = (path) => fetch("http://127.0.0.1:10093" + path).catch(() => undefined);
  const giveUpAt = Date.now() + 20000;
  let ready = await get("/readyz");
  while (!ready?.ok && Date.now() < giveUpAt) {
    await Bun.sleep(20);
    ready = await get("/readyz");
  }
  console.log(await ready?.text());
  console.log(await (await get("/metrics"))?.text());
`;

const serve = `
  shift_root=$1; bun=$2; program=$3; shift 3
  chroot "$shift_root" /fovea run --data-dir /data "$@" >"$shift_root/log" 2>&1 &
  appliance=$!
  "$bun" -e "$program"
  kill -TERM $appliance
  wait $appliance
`;

/** What a run printed: whether it was ready, and the lines of its scrape that begin with `prefix`. */
function served(prefix: string, ...flags: readonly string[]) {
  const { out, exitCode } = inNamespaces(serve, process.execPath, scrape, ...flags);
  const [ready = "", ...lines] = out.split("\n");
  const log = exitCode === 0 ? "" : readFileSync(join(empty, "log"), "utf8");
  return { exitCode, log, ready, lines: lines.filter((line) => line.startsWith(prefix)) };
}

test("runs, serves a scrape and stops when it is told to", () => {
  const { lines, ...rest } = served("kappie_forward_count{");
  expect(rest).toEqual({ exitCode: 0, log: "", ready: '{"ready":true,"reasons":[]}' });
  expect(lines.length).toBe(2);
  expect(existsSync(join(empty, "data/fovea.db"))).toBe(true);
});

test("plays a recording", () => {
  const { lines, ...rest } = served("kappie_forward_count{", "--replay", "/recording.ndjson");
  expect(rest).toEqual({ exitCode: 0, log: "", ready: '{"ready":true,"reasons":[]}' });
  expect(lines.filter((line) => line.includes('"ingress"'))).toEqual([expect.stringMatching(/\} [57]$/)]);
});

test("runs in a container of systemd", () => {
  const done = Bun.spawnSync([
    ...["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--volatile=no"],
    ...["--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN,CAP_SYS_ADMIN,CAP_SYS_RESOURCE"],
    ...["--system-call-filter=bpf perf_event_open", `--directory=${empty}`],
    ...["/fovea", "check", "-o", "json"],
  ]);
  const errors = done.exitCode === 0 ? "" : done.stderr.toString();
  expect({ errors, exitCode: done.exitCode }).toEqual({ errors: "", exitCode: 0 });
  expect(JSON.parse(done.stdout.toString()).ok).toBe(true);
});
