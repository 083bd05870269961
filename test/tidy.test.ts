// Rules about the code itself.

import { describe, expect, test } from "bun:test";
import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const root = join(import.meta.dir, "..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const find = (...patterns: string[]): readonly string[] =>
  patterns.flatMap((pattern) => globSync(pattern, { cwd: root })).toSorted();

const typescript = find("{src,bpf,windows,packaging,test}/**/*.ts");
const generated = typescript.filter((file) => file.endsWith(".gen.ts"));
const written = typescript.filter((file) => !file.endsWith(".gen.ts"));
const c = find("{bpf,windows,test}/**/*.{c,h}");
const shell = find("packaging/**/*.sh", ".ci/run");
const texts = find("*.md", "*.json", "*.toml", "packaging/**/*.{txt,service,yaml,yml,conf,md}");

/** What a file imports, its types included, as written. */
function importsOf(file: string): readonly string[] {
  const found = read(file).matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|\bimport\s+)"([^"]+)"/g);
  return [...found].flatMap(([, name]) => name ?? []);
}

/** Files that break a rule; the test's message then names them. */
const breaking = (files: readonly string[], broken: (file: string) => boolean): readonly string[] =>
  files.filter(broken);

test("the rules look at files", () => {
  expect(typescript.length).toBeGreaterThan(20);
  expect(c.length).toBeGreaterThan(5);
  expect(generated).toContain("bpf/contract.gen.ts");
});

describe("every file", () => {
  test("says first what it is", () => {
    expect(breaking([...typescript, ...c], (file) => !/^\/\/ \S.*\S\n/.test(read(file)))).toEqual([]);
    expect(breaking(shell, (file) => !/^#!\/bin\/(ba)?sh\n# \S/.test(read(file)))).toEqual([]);
  });

  test("has at most 400 lines", () => {
    const lines = (file: string): number => read(file).split("\n").length - 1;
    expect(breaking([...written, ...c, ...shell], (file) => lines(file) > 400)).toEqual([]);
  });

  test("is named after its subject", () => {
    const vague = /^(utils?|helpers?|common|types?|core|shared|managers?|services?|misc|index)\b/;
    const service = /^(src\/cli|windows|test|test\/(windows|wine))\/service\b/; // A Windows service is their subject.
    const named = breaking(
      [...typescript, ...c],
      (file) => vague.test(basename(file)) && !service.test(file),
    );
    expect(named).toEqual([]);
  });

  test("names no path of a developer's machine", () => {
    const home = /(?<![\w$.}])\/(home|Users)\/\w+|[A-Z]:\\+Users\\+\w+/;
    const all = [...typescript, ...c, ...shell, ...texts];
    expect(breaking(all, (file) => home.test(read(file)) || read(file).includes(`${root}/`))).toEqual([]);
  });

  test("has nothing left for later", () => {
    const later = /\b(TO[D]O|FIX[M]E|XX[X])\b/; // So written, the rule does not find itself.
    expect(breaking([...typescript, ...c, ...shell, ...texts], (file) => later.test(read(file)))).toEqual([]);
  });
});

describe("rooms", () => {
  const platforms = /^(\.\.?\/)+(bpf|windows)\//;

  test("src names a platform in main.ts alone", () => {
    const naming = written.filter(
      (file) => file.startsWith("src/") && importsOf(file).some((name) => platforms.test(name)),
    );
    expect(naming).toEqual(naming.filter((file) => file === "src/main.ts"));
  });

  test("native code is bound in the files that say so", () => {
    const allowed = /^(bpf\/lib(bpf|c)\.ts|windows\/[^/]+\.ts)$/;
    const binding = written.filter(
      (file) => importsOf(file).includes("bun:ffi") && !file.startsWith("test/"),
    );
    expect(binding).toEqual(binding.filter((file) => allowed.test(file)));
    expect(binding).toContain("bpf/libbpf.ts");
  });

  test("nothing that ships imports a test", () => {
    const shipped = written.filter((file) => !file.startsWith("test/"));
    expect(
      breaking(shipped, (file) => importsOf(file).some((name) => /^(\.\.?\/)+test\//.test(name))),
    ).toEqual([]);
  });
});

describe("contracts", () => {
  test("each is run by a test", () => {
    const imported = new Set(
      find("test/**/*.test.ts")
        .flatMap(importsOf)
        .map((name) => basename(name)),
    );
    const contracts = find("test/**/*.contract.ts");
    expect(breaking(contracts, (file) => !imported.has(basename(file)))).toEqual([]);
  });
});

describe("code", () => {
  test("exports by name, waits in the loop, swallows no rejection", () => {
    const shipped = written.filter((file) => !file.startsWith("test/"));
    expect(breaking(shipped, (file) => /^export default\b/m.test(read(file)))).toEqual([]);
    expect(breaking(shipped, (file) => /\bsetInterval\(/.test(read(file)))).toEqual([]);
    expect(
      breaking(shipped, (file) => /\.catch\(\(\) => (\{\s*\}|undefined|null)\)/.test(read(file))),
    ).toEqual([]);
  });

  const runs = (...command: string[]): string => {
    const done = Bun.spawnSync(command, { cwd: root, env: { ...process.env, NO_COLOR: "1" } });
    return done.exitCode === 0 ? "" : `${done.stdout}${done.stderr}`;
  };

  test("passes the linter and is formatted", () => {
    expect(
      runs(
        process.execPath,
        "--bun",
        "node_modules/.bin/biome",
        "ci",
        "--error-on-warnings",
        "--colors=off",
        "--diagnostic-level=warn",
      ),
    ).toBe("");
  }, 120_000);

  test("passes the type checker", () => {
    expect(runs(process.execPath, "--bun", "node_modules/.bin/tsc")).toBe("");
  }, 120_000);
});

describe("generated files", () => {
  test("name the command that makes them", () => {
    expect(breaking(generated, (file) => !/^\/\/ .*`npm run gen`/.test(read(file)))).toEqual([]);
  });

  test("contract.gen.ts is what the objects say", () => {
    const command = [process.execPath, "bpf/gen.ts", "dist/bpf/contract.bpf.o"];
    const made = Bun.spawnSync(command, { cwd: root, stderr: "inherit" });
    expect(made.exitCode).toBe(0);
    expect(read("bpf/contract.gen.ts")).toBe(made.stdout.toString());
  });
});

describe("package.json", () => {
  const { dependencies, devDependencies, scripts } = JSON.parse(read("package.json"));

  test("names exact versions, one of Bun", () => {
    const versions = Object.entries<string>({ ...dependencies, ...devDependencies });
    expect(versions.length).toBeGreaterThan(10);
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    expect(devDependencies["bun-types"]).toBe(devDependencies.bun);
    expect(Bun.version).toBe(devDependencies.bun);
  });

  test("goes through one script", () => {
    for (const [verb, command] of Object.entries(scripts))
      expect(command).toBe(`sh packaging/setup.sh ${verb}`);
  });

  test("continuous integration runs the test command of the README, nothing else", () => {
    const commands = read(".ci/run")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(commands).toEqual(["exec npm test"]);
    expect(read("README.md")).toContain("npm test");
  });
});
