// The rules of the filter as they are written: what is taken, what is refused, and with which words and line.

import { describe, expect, test } from "bun:test";
import {
  excludeRuleSchema,
  type FilterRule,
  filterRuleSchema,
  parseNetworkLogs,
  rulesMax,
  valuesMax,
} from "../src/filter-rules.ts";

const file = "/etc/fovea/network-log.yaml";

const messagesOf = (given: unknown, schema = filterRuleSchema): readonly string[] =>
  (schema.safeParse(given).error?.issues ?? []).map(
    ({ path, message }) => `${path.map(String).join(".")}: ${message}`,
  );

describe("a rule", () => {
  test("is read into one form, which reads as itself again", () => {
    const rule = filterRuleSchema.parse({
      name: "everything",
      from: { ip: "10.0.0.1", port: "53" },
      to: { ip: ["10.0.0.0/8", "2001:db8::/32"], port: [80, "443"] },
      ip: "192.0.2.1",
      port: 0,
      protocol: ["TCP", "dns", 132, "47"],
      verdict: "Forwarded",
      direction: ["INGRESS", "egress"],
      reason: "NETFILTER_*",
    });
    expect(rule).toEqual({
      name: "everything",
      from: { ip: ["10.0.0.1"], port: [53] },
      to: { ip: ["10.0.0.0/8", "2001:db8::/32"], port: [80, 443] },
      ip: ["192.0.2.1"],
      port: [0],
      protocol: ["tcp", "dns", "132", "47"],
      verdict: ["forwarded"],
      direction: ["ingress", "egress"],
      reason: ["NETFILTER_*"],
    });
    expect(filterRuleSchema.parse(rule)).toEqual(rule);
    expect(filterRuleSchema.parse({})).toEqual({});
  });

  const refused: readonly (readonly [given: unknown, message: string])[] = [
    [{ from: { ip: "10.0.0.256" } }, 'from.ip.0: is "10.0.0.256", not an address or a network such as'],
    [{ to: { ip: ["10.0.0.1", "10.0.0.0/33"] } }, 'to.ip.1: is "10.0.0.0/33", not an address'],
    [{ ip: 7 }, "ip.0: is 7, not an address"],
    [{ ip: null }, "ip.0: is null, not an address"],
    [{ port: 65_536 }, "port.0: is 65536, not a port from 0 to 65535"],
    [{ port: "http" }, 'port.0: is "http", not a port'],
    [{ port: 1.5 }, "port.0: is 1.5, not a port"],
    [{ port: -1 }, "port.0: is -1, not a port"],
    [
      { protocol: "tpc" },
      'protocol.0: is "tpc", not a number from 0 to 255, dns or one of icmp, igmp, tcp, udp',
    ],
    [{ protocol: 256 }, "protocol.0: is 256, not a number from 0 to 255"],
    [{ verdict: "lost" }, 'verdict.0: is "lost", not forwarded or dropped'],
    [{ direction: "in" }, 'direction.0: is "in", not ingress or egress'],
    [{ reason: "" }, 'reason.0: is "", not the name of a drop reason'],
    [{ verdict: [] }, "verdict: has no value: leave the key out, or give one"],
    [{ port: Array.from({ length: valuesMax + 1 }, () => 1) }, `port: has more than ${valuesMax} values`],
    [{ name: 5 }, "name: is a name, as text"],
    [{ from: "10.0.0.1" }, "from: is a section with ip and port"],
    ["tcp", ": is a rule"],
    [{ from: { namespacedPod: ["kube-system/coredns"] } }, "from.namespacedPod: cannot take effect yet"],
    [
      { to: { labelSelector: { matchLabels: { app: "web" } } } },
      "write ip with addresses or networks instead of labelSelector",
    ],
  ];
  for (const [given, message] of refused)
    test(`${JSON.stringify(given).slice(0, 60)} is refused`, () => {
      expect(messagesOf(given)).toEqual([expect.stringContaining(message)]);
    });

  test("with an unknown key is refused with that key", () => {
    const issue = (given: unknown) => filterRuleSchema.safeParse(given).error?.issues[0];
    expect(issue({ verdicts: "dropped" })).toMatchObject({
      code: "unrecognized_keys",
      keys: ["verdicts"],
      path: [],
    });
    expect(issue({ to: { ips: "::" } })).toMatchObject({
      code: "unrecognized_keys",
      keys: ["ips"],
      path: ["to"],
    });
  });

  test("that would exclude everything is refused, include everything is not", () => {
    for (const given of [{}, { name: "x" }, { from: {}, to: {} }]) {
      expect(messagesOf(given, excludeRuleSchema)).toEqual([
        ": names nothing to match and would exclude every record",
      ]);
      expect(messagesOf(given)).toEqual([]);
    }
    expect(messagesOf({ to: { port: 53 } }, excludeRuleSchema)).toEqual([]);
  });
});

const resource = (spec: string, kind = "ContainerNetworkLog", apiVersion = "acn.azure.com/v1alpha1") => `
apiVersion: ${apiVersion}
kind: ${kind}
metadata:
  name: sample
spec:${spec}
`;

const dropped = `
  includefilters:
    - name: dropped
      from:
        ip:
          - "192.168.1.10"
          - 10.0.0.0/8
      protocol: [tcp, udp, dns]
      verdict:
        - dropped`;

const rule: FilterRule = {
  name: "dropped",
  from: { ip: ["192.168.1.10", "10.0.0.0/8"] },
  protocol: ["tcp", "udp", "dns"],
  verdict: ["dropped"],
};

const problemsOf = (text: string): readonly unknown[] =>
  parseNetworkLogs(text, file).problems.map(({ line, key, message }) => [line, key, message]);

describe("a file of custom resources", () => {
  test("gives its rules, of either name of the kind", () => {
    for (const kind of ["ContainerNetworkLog", "RetinaNetworkFlowLog"])
      expect(parseNetworkLogs(resource(dropped, kind), file)).toEqual({
        rules: { include: [rule], exclude: [] },
        problems: [],
      });
  });

  test("may exclude, and carry what a cluster writes into it", () => {
    const text = `${resource("\n  excludefilters:\n  - to: { port: 53 }")}status:\n  state: CONFIGURED\n`;
    expect(parseNetworkLogs(text, file)).toEqual({
      rules: { include: [], exclude: [{ to: { port: [53] } }] },
      problems: [],
    });
  });

  test("may hold several, with nothing between and after them", () => {
    const text = `---${resource(dropped)}---\n---${resource(dropped)}---\n`;
    expect(parseNetworkLogs(text, file)).toEqual({
      rules: { include: [rule, rule], exclude: [] },
      problems: [],
    });
  });

  test("with what needs pods is refused with key and line", () => {
    const text = resource(`
  includefilters:
    - name: pods
      from:
        namespacedPod:
          - kube-system/coredns
      to:
        ip: 10.0.0.1
        labelSelector:
          matchLabels: { app: web }`);
    const { problems } = parseNetworkLogs(text, file);
    expect(problems).toEqual([
      {
        file,
        line: 10,
        key: "spec.includefilters.0.from.namespacedPod",
        message: expect.stringContaining("instead of namespacedPod") as string,
      },
      {
        file,
        line: 14,
        key: "spec.includefilters.0.to.labelSelector",
        message: expect.stringContaining("instead of labelSelector"),
      },
    ]);
  });

  test("with unknown keys is refused with each of them", () => {
    const text = resource(`
  includeFilters: []
  includefilters:
    - verdict: dropped
      nodes: [a]
    - from:
        ip: 10.0.0.1
        ports: 5`);
    const message = "is no key of a ContainerNetworkLog";
    expect(problemsOf(text)).toEqual([
      [10, "spec.includefilters.0.nodes", message],
      [13, "spec.includefilters.1.from.ports", message],
      [7, "spec.includeFilters", message],
    ]);
  });

  test("with wrong values is refused with the line of each", () => {
    const text = resource(`
  includefilters:
    - protocol:
        - tcp
        - tpc
    - verdict: lost`);
    expect(problemsOf(text)).toEqual([
      [10, "spec.includefilters.0.protocol.1", expect.stringContaining('is "tpc", not')],
      [11, "spec.includefilters.1.verdict.0", expect.stringContaining('is "lost", not')],
    ]);
  });

  test("of another kind or group is told so, and nothing else", () => {
    const deployment = resource("\n  replicas: 3", "Deployment", "apps/v1");
    expect(problemsOf(deployment)).toEqual([
      [2, "apiVersion", "is not acn.azure.com/v1alpha1"],
      [3, "kind", "is not ContainerNetworkLog or RetinaNetworkFlowLog"],
    ]);
    expect(problemsOf(resource(dropped, "ContainerNetworkLog", "acn.azure.com.evil/v1"))).toEqual([
      [2, "apiVersion", "is not acn.azure.com/v1alpha1"],
    ]);
    expect(problemsOf("kind: ContainerNetworkLog\nspec: {}\n")).toEqual([
      [1, "apiVersion", "is not acn.azure.com/v1alpha1"],
    ]);
  });

  test("without a section of rules is refused, and with an empty one filters nothing", () => {
    expect(problemsOf(resource(""))).toEqual([
      [6, "spec", "is a section with includefilters and excludefilters"],
    ]);
    expect(parseNetworkLogs(resource(" {}"), file)).toEqual({
      rules: { include: [], exclude: [] },
      problems: [],
    });
  });

  test("that is no YAML, no section or empty is refused", () => {
    expect(problemsOf("a: [1\nb: 2\n")[0]).toEqual([2, "", expect.stringContaining("is not the YAML")]);
    expect(problemsOf("kind: a\nkind: b\n")[0]).toEqual([2, "", expect.stringContaining("unique")]);
    expect(problemsOf("- 1\n")).toEqual([[1, "", "is no ContainerNetworkLog"]]);
    for (const text of ["", "---\n", "# nothing\n", "null\n"])
      expect(problemsOf(text)).toEqual([[undefined, "", "holds no ContainerNetworkLog"]]);
  });

  test("that aliases would blow up is refused", () => {
    const steps = Array.from({ length: 9 }, (_, index) => {
      const before = index === 0 ? "x" : `*a${index - 1}`;
      return `a${index}: &a${index} [${Array.from({ length: 9 }, () => before).join(", ")}]`;
    });
    expect(problemsOf(`${steps.join("\n")}\n`)).toEqual([
      [1, "", expect.stringContaining("is not the YAML that is expected")],
    ]);
  });

  test("beyond the bounds is refused", () => {
    const large = `# ${"x".repeat(2 ** 20)}\n${resource(dropped)}`;
    expect(problemsOf(large)).toEqual([[undefined, "", expect.stringContaining("more than 1048576")]]);
    const list = (count: number) => `\n  includefilters: [${"{ port: 1 }, ".repeat(count)}]`;
    expect(problemsOf(resource(list(rulesMax)))).toEqual([]);
    expect(problemsOf(resource(list(rulesMax + 1)))).toEqual([
      [7, "spec.includefilters", `has more than ${rulesMax} rules`],
    ]);
    const two = `${resource(list(rulesMax))}---${resource(list(1))}`;
    expect(problemsOf(two)).toEqual([
      [undefined, "", `has ${rulesMax + 1} include rules, more than ${rulesMax}`],
    ]);
  });
});
