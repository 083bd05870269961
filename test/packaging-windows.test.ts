// What is made for Windows on Linux: the tables of the installer, and signatures.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildMsi, productVersion, upgradeCode } from "../packaging/windows/msi.ts";
import { sign, signCommand, signingOf } from "../packaging/windows/sign.ts";
import { fileVersion } from "../packaging/windows/version-info.ts";
import { loadConfig } from "../src/config.ts";
import { makeSigner, openTimestampServer, signatureHolds } from "./signing.rig.ts";

const packaging = join(import.meta.dir, "../packaging");

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "fovea-windows-test-"));
});
afterAll(() => rmSync(scratch, { recursive: true }));

function tool(...command: readonly string[]): string {
  const done = Bun.spawnSync([...command], { cwd: scratch });
  expect({ command, exitCode: done.exitCode, said: done.stderr.toString() }).toMatchObject({ exitCode: 0 });
  return done.stdout.toString();
}

describe("the installer", () => {
  const program = "no program, but bytes like one\n";
  let msi: string;
  beforeAll(() => {
    const exe = join(scratch, "some.exe");
    writeFileSync(exe, program);
    msi = buildMsi({ exe, version: "1.2.3", directory: scratch });
  });

  /** Rows of a table by the names of their columns. */
  function table(name: string): readonly Readonly<Record<string, string>>[] {
    const [columns = "", , , ...rows] = tool("msiinfo", "export", msi, name).replaceAll("\r", "").split("\n");
    const names = columns.split("\t");
    return rows
      .filter((row) => row !== "")
      .map((row) => Object.fromEntries(row.split("\t").map((value, index) => [names[index] ?? "", value])));
  }
  const values = (name: string, key: string, value: string): Readonly<Record<string, string>> =>
    Object.fromEntries(table(name).map((row) => [row[key] ?? "", row[value] ?? ""]));

  test("is named after its version, 64-bit, for the whole machine", () => {
    expect(msi).toBe(join(scratch, "fovea-1.2.3-x64.msi"));
    expect(tool("msiinfo", "suminfo", msi)).toContain("Template: x64;1033");
    expect(values("Property", "Property", "Value")).toMatchObject({
      ALLUSERS: "1",
      ProductName: "Fovea",
      ProductVersion: "1.2.3",
      UpgradeCode: upgradeCode,
      REINSTALLMODE: "amus",
    });
  });

  test("holds the program and a configuration that is right", () => {
    const files = tool("msiextract", msi).trim().split("\n").toSorted();
    expect(files).toEqual(["Fovea/fovea.exe", "Fovea/fovea.yaml"]);
    expect(readFileSync(join(scratch, "Fovea/fovea.exe"), "utf8")).toBe(program);
    const config = join(scratch, "Fovea/fovea.yaml");
    expect(readFileSync(config, "utf8")).toBe(readFileSync(join(packaging, "windows/fovea.yaml"), "utf8"));
    expect(() => loadConfig({ file: config, env: {} })).not.toThrow();
    expect(values("Directory", "Directory", "Directory_Parent")).toMatchObject({
      INSTALLDIR: "ProgramFiles64Folder",
      DATADIR: "CommonAppDataFolder",
    });
  });

  test("the data is kept, never written over, and for SYSTEM and administrators alone", () => {
    const attributes = values("Component", "Component", "Attributes");
    expect(attributes).toEqual({ Program: "256", Data: String(256 + 128 + 16) });
    expect(values("Component", "Component", "KeyPath")).toEqual({ Program: "fovea.exe", Data: "fovea.yaml" });
    const [lock] = table("MsiLockPermissionsEx");
    expect(lock).toMatchObject({ LockObject: "DATADIR", Table: "CreateFolder" });
    expect(lock?.["SDDLText"]).toEndWith("D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)");
  });

  test("it replaces what is older or a rebuild, and refuses to go back", () => {
    const rows = table("Upgrade").toSorted((a, b) =>
      a["ActionProperty"]!.localeCompare(b["ActionProperty"]!),
    );
    const onlyDetect = 2;
    const bothEnds = 256 + 512;
    expect(rows).toEqual([
      expect.objectContaining({ VersionMin: "1.2.3", VersionMax: "", Attributes: String(onlyDetect) }),
      expect.objectContaining({ VersionMin: "0.0.0", VersionMax: "1.2.3", Attributes: String(bothEnds) }),
    ]);
    expect(rows.map((row) => row["ActionProperty"])).toEqual(["NEWERFOUND", "OLDERFOUND"]);
    expect(rows.every((row) => row["UpgradeCode"] === upgradeCode)).toBe(true);
    expect(table("LaunchCondition").map((row) => row["Condition"])).toContain("Installed OR NOT NEWERFOUND");
    expect(values("Property", "Property", "Value")["SecureCustomProperties"]).toBe("NEWERFOUND;OLDERFOUND");
  });

  test("the program makes its service as SYSTEM, and each step is undone by another", () => {
    const byProgram = 18;
    const byPath = 34;
    const deferredAsSystem = 1024 + 2048;
    const [whateverItSays, rollback] = [64, 256];
    const undo = deferredAsSystem + rollback + whateverItSays;
    expect(values("CustomAction", "Action", "Type")).toEqual({
      InstallService: String(byProgram + deferredAsSystem),
      UndoInstallService: String(byPath + undo),
      StopService: String(byProgram + deferredAsSystem + whateverItSays),
      RemoveService: String(byProgram + deferredAsSystem + whateverItSays),
      UndoRemoveService: String(byProgram + undo),
    });
    expect(values("CustomAction", "Action", "Target")).toEqual({
      InstallService: 'service install --take-over --config "[DATADIR]fovea.yaml"',
      UndoInstallService: '"[System64Folder]sc.exe" delete Fovea',
      StopService: "service stop",
      RemoveService: "service uninstall",
      UndoRemoveService: 'service install --take-over --config "[DATADIR]fovea.yaml"',
    });
    // Start at installation, stop at both; deleting is for the program alone, and not when another version comes.
    expect(values("ServiceControl", "Name", "Event")).toEqual({ Fovea: String(1 + 2 + 32) });
    const HKLM = "2";
    expect(table("RegLocator")).toEqual([
      expect.objectContaining({
        Root: HKLM,
        Key: "SYSTEM\\CurrentControlSet\\Services\\Fovea",
        Name: "ImagePath",
      }),
    ]);
    expect(table("AppSearch").map((row) => row["Property"])).toEqual(["SERVICEFOUND"]);
  });

  test("every action stands where it works", () => {
    const order = table("InstallExecuteSequence")
      .toSorted((a, b) => Number(a["Sequence"]) - Number(b["Sequence"]))
      .map((row) => row["Action"]!);
    const between = (...names: readonly string[]) =>
      expect(order.filter((name) => names.includes(name))).toEqual([...names]);
    between(
      "FindRelatedProducts",
      "LaunchConditions",
      "InstallInitialize",
      "RemoveExistingProducts",
      "ProcessComponents",
    );
    between("AppSearch", "InstallInitialize");
    between("StopServices", "StopService", "UndoRemoveService", "RemoveService", "RemoveFiles");
    between(
      "CreateFolders",
      "InstallFiles",
      "UndoInstallService",
      "InstallService",
      "StartServices",
      "InstallFinalize",
    );
    const conditions = values("InstallExecuteSequence", "Action", "Condition");
    expect(conditions).toMatchObject({
      StopService: "Installed",
      RemoveService: 'REMOVE~="ALL" AND NOT UPGRADINGPRODUCTCODE',
      UndoRemoveService: 'REMOVE~="ALL" AND NOT UPGRADINGPRODUCTCODE',
      InstallService: 'NOT REMOVE~="ALL"',
      UndoInstallService: 'NOT REMOVE~="ALL" AND NOT SERVICEFOUND',
    });
  });

  test("takes versions that installers can compare, and no others", () => {
    expect(productVersion("0.1.0")).toBe("0.1.0");
    expect(productVersion("255.255.65535")).toBe("255.255.65535");
    expect(productVersion("1.2.3-rc.1")).toBe("1.2.3");
    for (const version of ["256.0.0", "0.256.0", "0.0.65536", "1.2", "1.2.3.4", "", "1.2.x"])
      expect(() => productVersion(version)).toThrow("is no version for an installer");
  });

  test("a program that is not there is told before anything is made", () => {
    expect(() => buildMsi({ exe: "/nowhere/fovea.exe", directory: scratch })).toThrow("/nowhere/fovea.exe");
    expect(fileVersion(Buffer.from(program))).toBeUndefined();
  });
});

describe("signing", () => {
  const unsigned = (name: string): string => {
    const path = join(scratch, name);
    copyFileSync(join(scratch, "fovea-1.2.3-x64.msi"), path);
    return path;
  };

  test("needs certificate and key, or neither", () => {
    expect(signingOf({ FOVEA_SIGN_CERTIFICATE: "", PATH: "/bin" })).toBeUndefined();
    for (const name of ["FOVEA_SIGN_CERTIFICATE", "FOVEA_SIGN_KEY"])
      expect(() => signingOf({ [name]: "/a.pem" })).toThrow("signing needs both");
    const both = { FOVEA_SIGN_CERTIFICATE: "/c.pem", FOVEA_SIGN_KEY: "/k.pem" };
    expect(signingOf(both)).toEqual({ certificateFile: "/c.pem", keyFile: "/k.pem" });
    const more = { FOVEA_SIGN_PASSWORD_FILE: "/p", FOVEA_SIGN_TIMESTAMP_URL: "http://127.0.0.1/" };
    const signing = signingOf({ ...both, ...more })!;
    const command = signCommand(signing, "in", "out").join(" ");
    expect(command).toContain(" -readpass /p -ts http://127.0.0.1/ -in in -out out");
  });

  test("holds for these bytes and this signer, and for nothing else", () => {
    const signer = makeSigner(scratch);
    const path = unsigned("signed.msi");
    expect(signatureHolds(path, signer)).toBe(false);
    sign(path, signer);
    expect(signatureHolds(path, signer)).toBe(true);
    expect(signatureHolds(path, makeSigner(scratch, { name: "another" }))).toBe(false);
    const bytes = readFileSync(path);
    const at = bytes.indexOf("fovea.exe");
    expect(at).toBeGreaterThan(0);
    bytes[at] = 0x46;
    writeFileSync(path, bytes);
    expect(signatureHolds(path, signer)).toBe(false);
  });

  test("what fails leaves the file as it was, and says of which key", () => {
    const path = unsigned("kept.msi");
    const before = readFileSync(path);
    const signer = { certificateFile: "/nowhere/c.pem", keyFile: "/nowhere/k.pem" };
    expect(() => sign(path, signer)).toThrow(/kept\.msi cannot be signed with \/nowhere\/k\.pem/);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test("with a timestamp it outlives its certificate", async () => {
    const path = unsigned("stamped.msi");
    const signer = makeSigner(scratch);
    const authority = makeSigner(scratch, { name: "authority", usage: "timeStamping", days: 3650 });
    using server = openTimestampServer(scratch, authority);
    const child = Bun.spawn([process.execPath, join(packaging, "windows/sign.ts"), path], {
      env: {
        PATH: process.env["PATH"],
        FOVEA_SIGN_CERTIFICATE: signer.certificateFile,
        FOVEA_SIGN_KEY: signer.keyFile,
        FOVEA_SIGN_TIMESTAMP_URL: server.url,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    expect({ errors: await child.stderr.text(), code: await child.exited }).toEqual({ errors: "", code: 0 });
    expect(server.asked()).toBe(1);
    const inAYear = new Date(Date.now() + 365 * 86_400_000);
    expect(signatureHolds(path, signer, { authority, at: inAYear })).toBe(true);
    const other = unsigned("unstamped.msi");
    sign(other, signer);
    expect(signatureHolds(other, signer)).toBe(true);
    expect(signatureHolds(other, signer, { authority, at: inAYear })).toBe(false);
  });
});
