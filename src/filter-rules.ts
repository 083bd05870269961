// The rules of the filter, in the shape of the ContainerNetworkLog custom resource, and reading a file of those.

import { type Document, LineCounter, parseAllDocuments } from "yaml";
import { z } from "zod";
import { protocolNames } from "./flow.ts";
import { errorText } from "./log.ts";
import { parseRange } from "./store/address.ts";
import { offsetOf } from "./yaml-place.ts";

/** Rules of one list, and values of one field. */
export const rulesMax = 256;
export const valuesMax = 256;
const fileBytesMax = 2 ** 20;
const reasonLengthMax = 128;

const shown = (given: unknown): string => String(JSON.stringify(given)).slice(0, 80);

/** A list of values, or one value: what `parse` does not know is refused, beside what is expected. */
const values = <T extends string | number>(expected: string, parse: (given: unknown) => T | undefined) => {
  const value = z.unknown().transform((given, context): T => {
    const parsed = parse(given);
    if (parsed === undefined) context.addIssue(`is ${shown(given)}, not ${expected}`);
    return parsed ?? z.NEVER;
  });
  const list = z
    .array(value)
    .min(1, "has no value: leave the key out, or give one")
    .max(valuesMax, `has more than ${valuesMax} values`);
  return z.preprocess((given) => (Array.isArray(given) ? given : [given]), list).exactOptional();
};

const oneOf =
  <const T extends string>(...names: readonly T[]) =>
  (given: unknown): T | undefined =>
    names.find((name) => typeof given === "string" && name === given.toLowerCase());

const numberUpTo = (given: unknown, max: number): number | undefined => {
  const number = typeof given === "string" && /^\d{1,5}$/.test(given) ? Number(given) : given;
  return typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= max
    ? number
    : undefined;
};

const namedProtocols = Object.values(protocolNames);

/** A name in lower case, or a number as text. */
function parseProtocol(given: unknown): string | undefined {
  const number = numberUpTo(given, 0xff);
  return number === undefined ? oneOf("dns", ...namedProtocols)(given) : String(number);
}

const addresses = values("an address or a network such as 10.0.0.0/8 or 2001:db8::/32", (given) =>
  typeof given === "string" && parseRange(given) !== undefined ? given : undefined,
);
const ports = values("a port from 0 to 65535", (given) => numberUpTo(given, 0xffff));
const protocols = values(`a number from 0 to 255, dns or one of ${namedProtocols.join(", ")}`, parseProtocol);
const reasons = values("the name of a drop reason, or a pattern such as TCP_* (quoted)", (given) =>
  typeof given === "string" && given !== "" && given.length <= reasonLengthMax ? given : undefined,
);

/** Keys of the custom resource that need to know which pod has an address. */
const needsPods = (key: string) =>
  z
    .never(
      `cannot take effect yet: Fovea does not know the names and labels of pods. ` +
        `Until it does, write ip with addresses or networks instead of ${key}`,
    )
    .exactOptional();

const end = z.strictObject(
  {
    ip: addresses,
    port: ports,
    namespacedPod: needsPods("namespacedPod"),
    labelSelector: needsPods("labelSelector"),
  },
  "is a section with ip and port",
);

/** The values of a field are alternatives; all fields must match. */
export const filterRuleSchema = z.strictObject(
  {
    /** For whoever reads the rules. */
    name: z.string("is a name, as text").max(253, "is longer than 253 characters").exactOptional(),
    from: end.exactOptional(),
    to: end.exactOptional(),
    /** Of either end. */
    ip: addresses,
    port: ports,
    /** Lower case; `dns` is port 53 of UDP or TCP. */
    protocol: protocols,
    verdict: values("forwarded or dropped", oneOf("forwarded", "dropped")),
    direction: values("ingress or egress", oneOf("ingress", "egress")),
    /** Names of drop reasons in any case, `*` for any characters. A record without a reason matches none. */
    reason: reasons,
  },
  "is a rule: a section with from, to, protocol, verdict and more",
);
export type FilterRule = z.output<typeof filterRuleSchema>;

const hasTerm = ({ name, from, to, ...terms }: FilterRule): boolean =>
  [from, to, terms].some((section) => section !== undefined && Object.keys(section).length > 0);

/** A rule without a term matches every record: as an exclusion it would throw all away, most likely by mistake. */
export const excludeRuleSchema = filterRuleSchema.refine(
  hasTerm,
  "names nothing to match and would exclude every record",
);

/** Passes: what an include rule matches, or anything when there is none, and no exclude rule matches. */
export type FilterRules = {
  readonly include: readonly FilterRule[];
  readonly exclude: readonly FilterRule[];
};

/** The shape of a problem of the configuration. */
type RuleProblem = {
  readonly file: string;
  readonly line?: number;
  readonly key: string;
  readonly message: string;
};

const ruleList = <S extends z.ZodType>(rule: S) =>
  z.array(rule, "is a list of rules").max(rulesMax, `has more than ${rulesMax} rules`).default([]);

const kinds = ["ContainerNetworkLog", "RetinaNetworkFlowLog"] as const;

const resourceSchema = z.strictObject(
  {
    apiVersion: z
      .unknown()
      .refine(
        (given) => typeof given === "string" && /^acn\.azure\.com\/v\d+((alpha|beta)\d+)?$/.test(given),
        "is not acn.azure.com/v1alpha1",
      ),
    kind: z.enum(kinds, `is not ${kinds.join(" or ")}`),
    metadata: z.unknown().optional(),
    spec: z.strictObject(
      {
        includefilters: ruleList(filterRuleSchema),
        /** Ours: the custom resource knows no exclusions. */
        excludefilters: ruleList(excludeRuleSchema),
      },
      "is a section with includefilters and excludefilters",
    ),
    /** What the cluster writes there. */
    status: z.unknown().optional(),
  },
  "is no ContainerNetworkLog",
);

const dotted = (path: readonly PropertyKey[]): string => path.map(String).join(".");

type Found = { readonly path: readonly PropertyKey[]; readonly message: string };

/** What is of another kind altogether is told so, and not also that it has the wrong keys. */
function foundIn(issues: readonly z.core.$ZodIssue[]): readonly Found[] {
  const foreign = issues.filter(({ path }) => path[0] === "apiVersion" || path[0] === "kind");
  return (foreign.length > 0 ? foreign : issues).flatMap((issue): Found[] =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({
          path: [...issue.path, key],
          message: "is no key of a ContainerNetworkLog",
        }))
      : [issue],
  );
}

type Read = { readonly rules: FilterRules; readonly problems: readonly RuleProblem[] };
const noRules: FilterRules = { include: [], exclude: [] };

/** Undefined when there is nothing in it, as after a last `---`. */
function readDocument(document: Document, file: string, lines: LineCounter): Read | undefined {
  const problem = (offset: number | undefined, key: string, message: string): RuleProblem => ({
    ...{ file, key, message },
    ...(offset === undefined ? {} : { line: lines.linePos(offset).line }),
  });
  const faults = [...document.errors, ...document.warnings].map(({ pos, message }) =>
    problem(pos[0], "", `is not the YAML that is expected: ${message}`),
  );
  if (faults.length > 0) return { rules: noRules, problems: faults };
  let given: unknown;
  try {
    given = document.toJS();
  } catch (error) {
    // Aliases that would make a small file a huge object.
    const message = `is not the YAML that is expected: ${errorText(error)}`;
    return { rules: noRules, problems: [problem(document.range?.[0], "", message)] };
  }
  if (given === null) return undefined;
  const { data, error } = resourceSchema.safeParse(given);
  if (data !== undefined)
    return { rules: { include: data.spec.includefilters, exclude: data.spec.excludefilters }, problems: [] };
  const problems = foundIn(error.issues).map(({ path, message }) =>
    problem(offsetOf(document.contents, path) ?? document.contents?.range?.[0], dotted(path), message),
  );
  return { rules: noRules, problems };
}

/**
 * The rules of all custom resources in a file, one or more YAML documents. With a problem they are not what was
 * asked for, and must not be used.
 */
export function parseNetworkLogs(text: string, file: string): Read {
  const refused = (message: string): Read => ({ rules: noRules, problems: [{ file, key: "", message }] });
  const bytes = Buffer.byteLength(text);
  if (bytes > fileBytesMax) return refused(`has ${bytes} bytes, more than ${fileBytesMax}`);
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const read = [...documents].flatMap((document) => readDocument(document, file, lines) ?? []);
  const rules = {
    include: read.flatMap(({ rules }) => rules.include),
    exclude: read.flatMap(({ rules }) => rules.exclude),
  };
  const problems = read.flatMap(({ problems }) => problems);
  if (problems.length > 0) return { rules, problems };
  if (read.length === 0) return refused("holds no ContainerNetworkLog"); // Else a file cut short would let everything pass.
  for (const [key, list] of Object.entries(rules))
    if (list.length > rulesMax) return refused(`has ${list.length} ${key} rules, more than ${rulesMax}`);
  return { rules, problems };
}
