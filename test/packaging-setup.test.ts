// packaging/setup.sh on machines that lack something: what it says, and what it does then.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const plain = [
  "sh",
  "dirname",
  "sed",
  "id",
  "ls",
  "tr",
  "grep",
  "cat",
  "echo",
  "mkdir",
  "rm",
  "mv",
  "mktemp",
  "sort",
  "uname",
];

let checkout = "";
let programs = "";
const log = (): string =>
  existsSync(join(checkout, "log")) ? readFileSync(join(checkout, "log"), "utf8") : "";

/** A program that writes its name and arguments down, then does as told. */
function fake(name: string, body = ""): void {
  rmSync(join(programs, name), { force: true }); // A link would be written through.
  writeFileSync(join(programs, name), `#!/bin/sh\necho "${name} $*" >>"${checkout}/log"\n${body}\n`);
  chmodSync(join(programs, name), 0o755);
}

/** What this machine needs: a library for all work, a tool for tests, one that would start a daemon. */
const packages = `# What each column means stands in the real file.
liba-dev          build  /nowhere/liba.h  install  a
old-name|libb-dev build  /nowhere/libb.h  install  b
tool              test   no-such-tool     install  c
daemon            test   no-such-daemon   unpack   d
present           build  sed              install  e
`;

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), "fovea-setup-test-"));
  chmodSync(checkout, 0o755);
  programs = join(checkout, "programs");
  mkdirSync(programs);
  for (const name of plain) symlinkSync(Bun.which(name) ?? "", join(programs, name));
  mkdirSync(join(checkout, "packaging"));
  for (const file of ["package.json", "bun.lock", "packaging/setup.sh"])
    cpSync(join(root, file), join(checkout, file));
  writeFileSync(join(checkout, "packaging/packages.txt"), packages);
});
afterEach(() => rmSync(checkout, { recursive: true }));

function setup(verb: string, options: { nobody?: boolean; env?: Record<string, string> } = {}) {
  const drop =
    options.nobody === true
      ? [Bun.which("setpriv") ?? "", "--reuid=65534", "--regid=65534", "--clear-groups"]
      : [];
  const command = [...drop, "/bin/sh", join(checkout, "packaging/setup.sh"), verb];
  const done = Bun.spawnSync(command, { cwd: "/", env: { PATH: programs, ...options.env } });
  return { exitCode: done.exitCode, said: done.stderr.toString().trimEnd().split("\n") };
}

describe("on a distribution with apt", () => {
  beforeEach(() => {
    fake("apt-get");
    // apt-cache speaks of names that no package has; only a candidate says that one can be installed.
    fake(
      "apt-cache",
      'case $2 in old-name) echo "  Candidate: (none)" ;; *) echo "  Candidate: 1.0" ;; esac',
    );
    fake("npm", "exit 7");
  });

  test("says what it installs, takes the name that exists, leaves alone what only tests need", () => {
    const { said } = setup("build");
    expect(said[0]).toBe(
      "fovea: installing packages of this distribution, a minute or two: liba-dev libb-dev ",
    );
    const [install] = log()
      .split("\n")
      .filter((line) => line.includes(" install "));
    expect(install).toEndWith(" install -y --no-install-recommends liba-dev libb-dev");
  });

  test("refreshes the lists and tries again when an installation fails", () => {
    fake("apt-get", `case $* in *" update") : >"${checkout}/fresh" ;; esac; [ -e "${checkout}/fresh" ]`);
    setup("build");
    const calls = log()
      .split("\n")
      .filter((line) => line.startsWith("apt-get"));
    const verbs = calls.map((call) => /\b(install|update)\b/.exec(call)?.[0]);
    expect(verbs).toEqual(["install", "update", "install"]);
  });

  test("shows what apt said when that fails too", () => {
    fake("apt-get", "echo E: no network; exit 100");
    const { exitCode, said } = setup("build");
    expect(exitCode).not.toBe(0);
    expect(said).toContain("E: no network");
    expect(log()).not.toContain("npm");
  });

  test("unpacks what would start a daemon", () => {
    fake("dpkg-deb", 'mkdir -p "$3/usr/bin"');
    const { said } = setup("test");
    expect(said[0]).toContain("liba-dev libb-dev tool daemon");
    expect(log()).toMatch(/apt-get .* install -y --no-install-recommends liba-dev libb-dev tool\n/);
    expect(log()).toMatch(/apt-get .* download daemon\n/);
    expect(existsSync(join(checkout, "node_modules/.fovea-tools/daemon/usr/bin"))).toBe(true);
  });

  describe("a kernel to boot", () => {
    const kernel = "linux-image-cloud-amd64";
    const tools = "node_modules/.fovea-tools";
    beforeEach(() => {
      writeFileSync(
        join(checkout, "packaging/packages.txt"),
        `${kernel} test ${kernel}/boot kernel an old one\n`,
      );
      fake("uname", "echo x86_64");
      fake(
        "apt-cache",
        'if [ $1 = depends ]; then echo "$2"; echo "  Depends: linux-image-6.1.0-9"; else echo "  Candidate: 1.0"; fi',
      );
      fake("dpkg-deb", 'mkdir -p "$3/boot"');
    });

    test("is the one that its name stands for, once", () => {
      const { said } = setup("test");
      expect(said[0]).toBe(`fovea: unpacking ${kernel}, which a test boots in an emulator`);
      expect(log()).toMatch(/apt-get .* download linux-image-6.1.0-9\n/);
      expect(existsSync(join(checkout, tools, kernel, "boot"))).toBe(true);
      rmSync(join(checkout, "log"));
      setup("test");
      expect(log()).not.toContain("apt-");
    });

    test.each([
      ["a distribution without one", "apt-cache", 'echo "  Candidate: (none)"'],
      ["another processor", "uname", "echo aarch64"],
    ])("%s goes without", (_, program, answer) => {
      fake(program, answer);
      const { said } = setup("test");
      expect(said[0]).toStartWith("fovea: fetching @oven/bun-");
      expect(log()).not.toContain("apt-get");
    });

    test("one that cannot be had is done without, and said", () => {
      fake("apt-get", "exit 1");
      const { said } = setup("test");
      expect(said).toContain(`fovea: without ${kernel}: the test that boots it is skipped`);
      expect(said.some((line) => line.startsWith("fovea: fetching @oven/bun-"))).toBe(true);
    });

    test("what newer distributions have below /usr is found there", () => {
      writeFileSync(
        join(checkout, "packaging/packages.txt"),
        "busybox-static test busybox-static/bin/busybox unpack what runs first\n",
      );
      fake("dpkg-deb", 'mkdir -p "$3/usr/bin"; : >"$3/usr/bin/busybox"');
      const { said } = setup("test");
      expect(said.join("\n")).not.toContain("what shows them is not there");
      expect(existsSync(join(checkout, tools, "busybox-static/usr/bin/busybox"))).toBe(true);
    });

    test("is nothing that a build needs", () => {
      setup("build");
      expect(log()).not.toContain("apt-");
    });
  });

  test("a Bun that bun.lock does not name is refused", () => {
    writeFileSync(join(checkout, "packaging/packages.txt"), "# nothing\n");
    fake("npm", 'while [ "$1" != --pack-destination ]; do shift; done; echo forged >"$2/bun.tgz"');
    symlinkSync(Bun.which("node") ?? "", join(programs, "node"));
    fake("tar");
    const { exitCode, said } = setup("build");
    expect(exitCode).not.toBe(0);
    expect(said.at(-1)).toMatch(
      /^fovea: @oven\/bun-linux-\w+@[\d.]+ from npm is not the one that bun.lock names$/,
    );
    expect(log()).not.toContain("tar ");
  });

  describe("Bun for Windows", () => {
    const version = /"bun": "([^"]+)"/.exec(readFileSync(join(root, "package.json"), "utf8"))?.[1] ?? "";
    const windows = "node_modules/.fovea-tools/bun-windows/package";

    beforeEach(() => {
      writeFileSync(join(checkout, "packaging/packages.txt"), "# nothing\n");
      fake("bun", `if [ "$1" = --version ]; then echo ${version}; fi`);
      mkdirSync(join(checkout, "node_modules/.bin"), { recursive: true });
      symlinkSync(join(programs, "bun"), join(checkout, "node_modules/.bin/bun"));
      symlinkSync(Bun.which("node") ?? "", join(programs, "node"));
      fake("npm", 'while [ "$1" != --pack-destination ]; do shift; done; echo forged >"$2/bun.tgz"');
      fake("tar");
    });

    test("one that bun.lock does not name is refused, and nothing is built", () => {
      const { exitCode, said } = setup("build");
      expect(exitCode).not.toBe(0);
      expect(said.at(-1)).toBe(
        `fovea: @oven/bun-windows-x64@${version} from npm is not the one that bun.lock names`,
      );
      expect(log()).not.toContain("tar ");
      expect(log()).not.toContain("packaging/build.ts");
    });

    test("is fetched anew for another version, and left alone otherwise", () => {
      mkdirSync(join(checkout, windows), { recursive: true });
      const place = (there: string): void =>
        writeFileSync(join(checkout, windows, "package.json"), `{\n  "version": "${there}"\n}\n`);
      place("1.0.0");
      expect(setup("build").exitCode).not.toBe(0);
      expect(log()).toContain(`npm pack`);
      mkdirSync(join(checkout, windows), { recursive: true });
      place(version);
      writeFileSync(join(checkout, "log"), "");
      expect(setup("build")).toEqual({ exitCode: 0, said: [""] });
      expect(log()).not.toContain("npm ");
      expect(log()).toContain("bun packaging/build.ts");
    });

    test("is nothing that a start needs", () => {
      mkdirSync(join(checkout, "dist"));
      writeFileSync(join(checkout, "dist/fovea"), "#!/bin/sh\n", { mode: 0o755 });
      expect(setup("start")).toEqual({ exitCode: 0, said: [""] });
      expect(log()).not.toContain("npm ");
      expect(log()).toContain("bun packaging/build.ts linux");
    });
  });

  test("not root: one line that says what to run instead", () => {
    const start = { exitCode: 1, said: ["fovea: loading eBPF needs root; run: sudo npm start"] };
    expect(setup("start", { nobody: true })).toEqual(start);
    expect(setup("build", { nobody: true }).said).toEqual([
      "fovea: installing liba-dev old-name|libb-dev needs root; run: sudo npm run build",
    ]);
    expect(log()).toBe("");
  });

  test("an npm that gave up the root of sudo is left out", () => {
    const { said } = setup("test", { nobody: true, env: { SUDO_UID: "65534" } });
    expect(said).toEqual(["fovea: loading eBPF needs root; run: sudo sh packaging/setup.sh test"]);
  });
});

test("elsewhere: one line with the names", () => {
  const { exitCode, said } = setup("build");
  expect(exitCode).toBe(1);
  expect(said).toEqual([
    "fovea: not a Debian or Ubuntu: install what your distribution calls liba-dev old-name|libb-dev and run this again",
  ]);
});

test("no npm: one line", () => {
  writeFileSync(join(checkout, "packaging/packages.txt"), "# nothing\n");
  expect(setup("build").said).toEqual(["fovea: npm is missing: install the package npm and run this again"]);
});

test("a verb that there is not", () => {
  const { exitCode, said } = setup("fly");
  expect(exitCode).toBe(1);
  expect(said).toEqual([
    "fovea: usage: sh packaging/setup.sh start|test|check|build|bench|gen|dev [arguments]",
  ]);
});
