// Makes the installer, dist/fovea-<version>-x64.msi, from dist/fovea.exe: `bun packaging/windows/msi.ts`.

import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import { fileVersion } from "./version-info.ts";

const here = import.meta.dir;
const root = join(here, "../..");

/** Of all versions, for ever: by it an installer finds the one that it replaces. */
export const upgradeCode = "{551D585D-E109-414F-B766-75A7F69B5B88}";

export type MsiOptions = {
  /** dist/fovea.exe. */
  readonly exe?: string;
  /** That of package.json. */
  readonly version?: string;
  /** dist. */
  readonly directory?: string;
};

function run(command: readonly string[]): void {
  const done = Bun.spawnSync([...command], { stdout: "pipe", stderr: "pipe" });
  if (done.exitCode === 0) return;
  const [tool] = command;
  throw new Error(`${tool} failed (${done.exitCode ?? done.signalCode}): ${done.stderr.toString().trim()}`);
}

/** Installers compare three numbers, and keep them in a byte, a byte and two bytes. */
export function productVersion(version: string): string {
  const [, major, minor, build] = /^(\d+)\.(\d+)\.(\d+)(?:[-+].*)?$/.exec(version) ?? [];
  const fits = Number(major) < 2 ** 8 && Number(minor) < 2 ** 8 && Number(build) < 2 ** 16;
  if (!fits) throw new Error(`${version} is no version for an installer: 0.0.0 to 255.255.65535`);
  return [major, minor, build].join(".");
}

const ownVersion = (): string => JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;

/** Component attributes: 64-bit; stays when the product goes; stays as it is when the file is there already. */
const dataAttributes = 256 + 16 + 128;
/** Upgrade attributes: both ends belong to the range, so that a rebuild of one version replaces the other. */
const replacedAttributes = 256 + 512;
/** Custom action: when the installation fails, as SYSTEM, whatever the exit code. */
const undo = 1024 + 256 + 2048 + 64;
/** Custom action: a program of the product, and one by its path. */
const ownProgram = 18;
const otherProgram = 34;
/** SYSTEM and administrators, nobody else: the configuration names files with secrets, the store has the traffic. */
const dataSecurity = "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

/** What wixl has no words for, or passes over without one. */
function finishTables(version: string, exeVersion: string | undefined): readonly string[] {
  const lockTable = [
    "`MsiLockPermissionsEx` CHAR(72) NOT NULL",
    "`LockObject` CHAR(72) NOT NULL",
    "`Table` CHAR(32) NOT NULL",
    "`SDDLText` CHAR(0) NOT NULL",
    "`Condition` CHAR(255) PRIMARY KEY `MsiLockPermissionsEx`",
  ].join(", ");
  // A file with a version is compared by it alone.
  const versioned = [
    `UPDATE \`File\` SET \`Version\` = '${exeVersion}', \`Language\` = '1033' WHERE \`File\` = 'fovea.exe'`,
    "DELETE FROM `MsiFileHash` WHERE `File_` = 'fovea.exe'",
  ];
  return [
    `UPDATE \`Component\` SET \`Attributes\` = ${dataAttributes} WHERE \`Component\` = 'Data'`,
    // wixl passes over that it is for a rollback: it would run at once.
    `UPDATE \`CustomAction\` SET \`Type\` = ${ownProgram + undo} WHERE \`Action\` = 'UndoRemoveService'`,
    "INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`)" +
      ` VALUES ('UndoInstallService', ${otherProgram + undo}, 'System64Folder', '"[System64Folder]sc.exe" delete Fovea')`,
    "INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMin`, `VersionMax`, `Attributes`, `ActionProperty`)" +
      ` VALUES ('${upgradeCode}', '0.0.0', '${version}', ${replacedAttributes}, 'OLDERFOUND')`,
    "UPDATE `Property` SET `Value` = 'NEWERFOUND;OLDERFOUND' WHERE `Property` = 'SecureCustomProperties'",
    `CREATE TABLE \`MsiLockPermissionsEx\` (${lockTable})`,
    "INSERT INTO `MsiLockPermissionsEx` (`MsiLockPermissionsEx`, `LockObject`, `Table`, `SDDLText`)" +
      ` VALUES ('Data', 'DATADIR', 'CreateFolder', '${dataSecurity}')`,
    ...(exeVersion === undefined ? [] : versioned),
  ];
}

/** Below `scratch`, where all that goes into it stands side by side: wixl takes no absolute path of a source. */
function makeMsi(scratch: string, exe: string, version: string): string {
  for (const file of ["fovea.wxs", "fovea.yaml"]) copyFileSync(join(here, file), join(scratch, file));
  symlinkSync(realpathSync(exe), join(scratch, "fovea.exe"));
  const made = join(scratch, "fovea.msi");
  run([
    // The platform of the package comes from here alone; the attribute in the file is passed over.
    ...["wixl", "--arch", "x64", "--output", made],
    ...["--define", `Version=${version}`, "--define", `UpgradeCode=${upgradeCode}`],
    join(scratch, "fovea.wxs"),
  ]);
  run(["msibuild", made, "-q", ...finishTables(version, fileVersion(readFileSync(exe)))]);
  return made;
}

/** Returns the path of the installer. It needs wixl and msibuild; the executable is signed before, the result after. */
export function buildMsi(options: MsiOptions = {}): string {
  const { exe = join(root, "dist/fovea.exe"), directory = join(root, "dist") } = options;
  const version = productVersion(options.version ?? ownVersion());
  if (!existsSync(exe)) throw new Error(`${exe} is not there: build it first`);
  const path = join(directory, `fovea-${version}-x64.msi`);
  const scratch = mkdtempSync(join(directory, "msi-"));
  try {
    renameSync(makeMsi(scratch, exe, version), path);
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return path;
}

if (import.meta.main) {
  const path = buildMsi();
  console.log(`${path} ${Math.ceil(statSync(path).size / 1024)} KiB`);
}
