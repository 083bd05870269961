// Fovea on Windows nodes without the installer: the script for single ones, the DaemonSet and its image for clusters.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { loadConfig } from "../src/config.ts";

const packaging = join(import.meta.dir, "../packaging");
const textOf = (path: string): string => readFileSync(join(packaging, path), "utf8");

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "fovea-nodes-test-"));
});
afterAll(() => rmSync(scratch, { recursive: true }));

type Document = Readonly<Record<string, unknown>> & { readonly kind: string };
type Named = { readonly name: string };
type Labelled = { readonly labels: Readonly<Record<string, string>> };
type Container = Readonly<
  Record<"startupProbe" | "livenessProbe" | "readinessProbe", Record<string, unknown>>
> & {
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly env: readonly Named[];
  readonly volumeMounts: readonly unknown[];
  readonly resources: Readonly<Record<"requests" | "limits", Readonly<Record<string, string>>>>;
};
type DaemonSet = {
  readonly spec: {
    readonly selector: { readonly matchLabels: Labelled["labels"] };
    readonly updateStrategy: { readonly rollingUpdate: { readonly maxSurge: number } };
    readonly template: {
      readonly metadata: Labelled;
      readonly spec: {
        readonly containers: readonly [Container, ...Container[]];
        readonly securityContext: { readonly windowsOptions: Record<string, unknown> };
        readonly nodeSelector: Record<string, string>;
        readonly serviceAccountName: string;
        readonly hostNetwork: boolean;
        readonly automountServiceAccountToken: boolean;
        readonly tolerations: readonly unknown[];
        readonly volumes: readonly unknown[];
      };
    };
  };
};

describe("the script for single nodes", () => {
  const script = textOf("windows/install.ps1");
  /** Without comments. */
  const code = script.replace(/<#[\s\S]*?#>/g, "").replace(/^\s*#.*$/gm, "");

  test("is plain ASCII: Windows PowerShell reads anything else in the code page of the machine", () => {
    expect(script).toMatch(/^[\t\n\x20-\x7e]*$/);
  });

  test("is strict, wants an administrator, and fails at the first error", () => {
    expect(script).toStartWith("#Requires -Version 5.1\n#Requires -RunAsAdministrator\n");
    expect(code).toContain("Set-StrictMode -Version Latest\n$ErrorActionPreference = 'Stop'\n");
    expect(code).toContain("if ($LASTEXITCODE -ne 0) { throw");
    expect(code).toContain("[Environment]::Is64BitProcess");
  });

  test("makes no code of text, fetches nothing, opens no firewall, and does not lower the guard", () => {
    for (const word of [
      ...[
        "Invoke-Expression",
        "iex",
        "ScriptBlock",
        "Add-Type",
        "EncodedCommand",
        "Start-Job",
        "cmd",
        "cmd.exe",
      ],
      ...["Invoke-WebRequest", "iwr", "Invoke-RestMethod", "DownloadFile", "DownloadString", "BitsTransfer"],
      ...["NetFirewallRule", "netsh", "ExecutionPolicy", "MpPreference", "Everyone", "env:"],
    ])
      expect(code.match(new RegExp(`(?<![\\w-])${word.replace(".", "\\.")}(?!\\w)`, "gi")) ?? []).toEqual([]);
  });

  test("verifies the copy before anything of it runs", () => {
    const body = /function Install-Program \{([\s\S]*?)\n\}/.exec(code)?.[1] ?? "";
    const steps = ["Copy-Item", "Assert-Program -Path $fresh", "Stop-Fovea", "Move-Item"];
    const places = steps.map((step) => body.indexOf(step));
    expect(places.every((place) => place > 0)).toBe(true);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(code).toContain("-Algorithm SHA256");
    expect(code).toContain("Get-AuthenticodeSignature");
    expect(code).toContain("if ($Sha256 -eq '' -and $SignerThumbprint -eq '') {\n        throw");
  });

  test("drives the service by verbs that there are, and keeps the data when it removes it", () => {
    const verbs = [...code.matchAll(/@\('service', '(\w+)'/g)].map(([, verb]) => verb);
    expect(new Set(verbs)).toEqual(new Set(["install", "start", "stop", "uninstall"]));
    const removal = /function Uninstall-Fovea \{([\s\S]*?)\n\}/.exec(code)?.[1] ?? "";
    expect(removal).toContain("Remove-Item -LiteralPath $programDirectory");
    expect(removal.match(/Remove-Item[^\n]*dataDirectory/)).toBeNull();
  });

  test("uses no directory for data that somebody else may have laid out", () => {
    const body = /function Install-Data \{([\s\S]*?)\n\}/.exec(code)?.[1] ?? "";
    const steps = [
      "Assert-OwnPath -Path $dataDirectory",
      "New-Item",
      "Protect-Directory",
      "Assert-OwnPath -Path $configFile",
    ];
    const places = steps.map((step) => body.indexOf(step));
    expect(places.every((place) => place > 0)).toBe(true);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  });

  test("its brackets close", () => {
    const bare = code.replace(/'[^'\n]*'/g, "").replace(/"[^"\n]*"/g, "");
    const count = (bracket: string): number => bare.split(bracket).length;
    for (const [open, close] of ["{}", "()", "[]"].map((pair) => pair.split("")))
      expect(count(open!)).toBe(count(close!));
  });
});

describe("the DaemonSet for Windows nodes", () => {
  const documents = parseAllDocuments(textOf("kubernetes/windows-daemonset.yaml")).map(
    (document): Document => {
      expect(document.errors).toEqual([]);
      return document.toJS();
    },
  );
  const ofKind = <T>(kind: string): T => documents.find((document) => document.kind === kind) as T;
  const daemonSet = ofKind<DaemonSet>("DaemonSet");
  const pod = daemonSet.spec.template.spec;
  const [container, ...others] = pod.containers;
  const configMap = ofKind<{ readonly metadata: Named; readonly data: { readonly "fovea.yaml": string } }>(
    "ConfigMap",
  );

  test("runs on every Windows node as a program of the host, as SYSTEM", () => {
    expect(documents.map(({ kind }) => kind)).toEqual([
      "Namespace",
      "ServiceAccount",
      "ConfigMap",
      "DaemonSet",
    ]);
    expect(pod.securityContext.windowsOptions).toEqual({
      hostProcess: true,
      runAsUserName: "NT AUTHORITY\\SYSTEM",
    });
    expect(pod.hostNetwork).toBe(true);
    expect(pod.nodeSelector).toMatchObject({ "kubernetes.io/os": "windows", "kubernetes.io/arch": "amd64" });
    expect(pod.tolerations).toEqual([{ operator: "Exists" }]);
    expect(others).toEqual([]); // A pod of this kind holds no container of another.
    expect(pod.automountServiceAccountToken).toBe(false);
    const { labels } = ofKind<{ readonly metadata: Labelled }>("Namespace").metadata;
    expect(labels["pod-security.kubernetes.io/enforce"]).toBe("privileged");
    expect(daemonSet.spec.updateStrategy.rollingUpdate.maxSurge).toBe(0);
  });

  test("its labels, names and mounts fit together", () => {
    const { selector, template } = daemonSet.spec;
    expect(template.metadata.labels).toMatchObject(selector.matchLabels);
    expect(pod.serviceAccountName).toBe(ofKind<{ metadata: Named }>("ServiceAccount").metadata.name);
    expect(pod.volumes).toEqual([{ name: "config", configMap: { name: configMap.metadata.name } }]);
    expect(container.volumeMounts).toEqual([{ name: "config", mountPath: "/etc/fovea", readOnly: true }]);
    const sandbox = "%CONTAINER_SANDBOX_MOUNT_POINT%";
    expect(container.command).toEqual([`${sandbox}\\fovea.exe`]);
    expect(container.args).toEqual(["run", "--config", `${sandbox}\\etc\\fovea\\fovea.yaml`]);
  });

  test("has limits, and probes that reach the port of its configuration", () => {
    expect(container.resources.requests).toEqual({ cpu: expect.any(String), memory: expect.any(String) });
    expect(container.resources.limits["memory"]).toEqual(expect.any(String));
    const file = join(scratch, "mounted.yaml");
    writeFileSync(file, configMap.data["fovea.yaml"]);
    const { listen, dataDir, node } = loadConfig({ file, env: { FOVEA_NODE: "win-1" } });
    const { startupProbe, livenessProbe, readinessProbe } = container;
    const asked = (path: string) => ({ httpGet: { host: listen.host, port: listen.port, path } });
    expect(startupProbe).toMatchObject(asked("/healthz"));
    expect(livenessProbe).toMatchObject(asked("/healthz"));
    expect(readinessProbe).toMatchObject(asked("/readyz"));
    expect(dataDir).toMatch(/^C:\\ProgramData\\Fovea\\/); // Of the host: no volume.
    expect(node).toBe("win-1");
    expect(container.env.map(({ name }) => name)).toEqual(["FOVEA_NODE"]);
  });

  test("its image is the base for such containers and one file", () => {
    const lines = textOf("windows/Dockerfile")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(lines).toEqual([
      "FROM mcr.microsoft.com/oss/kubernetes/windows-host-process-containers-base-image:v1.0.0",
      "COPY fovea.exe /fovea.exe",
      'ENTRYPOINT ["%CONTAINER_SANDBOX_MOUNT_POINT%\\\\fovea.exe"]',
      'CMD ["run"]',
    ]);
    expect(JSON.parse(lines[2]!.slice("ENTRYPOINT ".length))).toEqual(container.command);
  });

  test("the sample configuration names keys that there are", () => {
    const sample = textOf("windows/fovea.yaml");
    expect(parse(sample)).toBeNull();
    const offered = sample.replace(/^# (?=(listen|api):)/gm, "");
    const file = join(scratch, "offered.yaml");
    writeFileSync(file, offered);
    expect(parse(offered)).toHaveProperty("listen");
    expect(() => loadConfig({ file, env: {} })).not.toThrow();
  });
});
