// DNS of a pod whose messages cross veth, bridge and uplink: each counted once, answered or not.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { FlowRecord } from "../../src/flow.ts";
import { createDnsNames } from "../../src/identity/dns.ts";
import { createNode } from "../../src/node.ts";
import type { DnsAnswer } from "../../src/snapshot.ts";
import {
  answerTtlSeconds,
  answerV4,
  answerV6,
  askOverTcp,
  dnsQuery,
  type QuestionType,
  serveDns,
  slowMs,
} from "./dns-server.ts";
import { type Observer, observe } from "./observer.ts";
import { openPods, type Pods } from "./pods.ts";
import { mayMakeNamespaces } from "./proc-namespace.ts";
import { openUdp } from "./sockets.ts";

describe.skipIf(!mayMakeNamespaces)("DNS", () => {
  let pods: Pods;
  let observer: Observer;
  let port = 40_000;
  const undo = new AsyncDisposableStack();
  beforeAll(async () => {
    pods = openPods("routed");
    undo.use(pods.lab);
    undo.use(await serveDns(pods.outside.at, [pods.outside.v4, pods.outside.v6]));
    observer = undo.use(await observe(pods.host.at));
  });
  afterEach(() => {
    expect(observer.answer.errors).toEqual({});
    expect(observer.law().accounted).toBe(observer.law().seen);
    expect(observer.latest.dns?.lost).toBe(0);
  });
  afterAll(() => undo.disposeAsync());

  const queries = (type: string): number =>
    observer.latest.dns?.queries.find((row) => row.type === type)?.count ?? 0;
  const responses = (type: string, code: string): number =>
    observer.latest.dns?.responses.find((row) => row.type === type && row.code === code)?.count ?? 0;
  const allQueries = (): number =>
    observer.latest.dns?.queries.reduce((sum, { count }) => sum + count, 0) ?? 0;
  const allResponses = (): number =>
    observer.latest.dns?.responses.reduce((sum, { count }) => sum + count, 0) ?? 0;
  const latency = () => observer.latest.dns?.latency ?? { bounds: [], counts: [], sum: 0, count: 0 };

  /** Asks over UDP, each question from a port of its own, and waits for so many answers. */
  async function ask(
    family: "v4" | "v6",
    questions: readonly { readonly name: string; readonly type: QuestionType }[],
    answered: number,
  ): Promise<readonly DnsAnswer[]> {
    using undoSockets = new DisposableStack();
    const before = allResponses();
    const sockets = questions.map(({ name, type }, i) => {
      port += 1;
      const socket = undoSockets.use(openUdp(pods.podA.at, { address: pods.podA[family], port }));
      socket.send({ address: pods.outside[family], port: 53 }, dnsQuery(0x1000 + i, name, type));
      return socket;
    });
    const answers: DnsAnswer[] = [];
    let received = 0;
    await observer.until(() => {
      answers.push(...(observer.latest.dnsAnswers ?? []));
      received += sockets.reduce((sum, socket) => sum + socket.received().packets, 0);
      return received >= answered && allResponses() >= before + answered;
    });
    expect(received).toBe(answered);
    return answers;
  }

  /** The records that a node makes of what was seen since the last tick. */
  async function records(): Promise<readonly FlowRecord[]> {
    const node = createNode({ names: createDnsNames({ namesMax: 8 }), now: Date.now });
    const { snapshots } = await observer.tick();
    const collectors = Object.entries(snapshots).map(([name, snapshot]) => ({
      name,
      collect: () => snapshot,
    }));
    return (await node.observe(collectors, new AbortController().signal)).flows;
  }

  /** The codes on the records of each way of a client's port. What a stack drops of a connection's end is no answer. */
  function errorsOf(flows: readonly FlowRecord[], client: string, clientPort: number) {
    const forwarded = flows.filter(({ verdict }) => verdict === "forwarded");
    const query = forwarded.filter((flow) => flow.source === client && flow.sourcePort === clientPort);
    const response = forwarded.filter(
      (flow) => flow.destination === client && flow.destinationPort === clientPort,
    );
    return {
      query: query.map(({ dnsError }) => dnsError),
      response: response.map(({ dnsError }) => dnsError),
    };
  }

  const repeated = (count: number, name: string, type: QuestionType) =>
    Array.from({ length: count }, () => ({ name, type }));

  describe.each(["v4", "v6"] as const)("over UDP, %s", (family) => {
    test("queries by type, responses by type and code", async () => {
      const asked = {
        ...{ a: queries("A"), aaaa: queries("AAAA"), mx: queries("MX"), all: allQueries() },
        ...{ ok: responses("A", "NOERROR"), ok6: responses("AAAA", "NOERROR") },
        ...{ none: responses("A", "NXDOMAIN"), fail: responses("MX", "SERVFAIL") },
        refused: responses("AAAA", "REFUSED"),
      };
      const questions = [
        ...repeated(30, "web.test", "A"),
        ...repeated(20, "web.test", "AAAA"),
        ...repeated(7, "unknown.test", "A"),
        ...repeated(5, "failing.test", "MX"),
        ...repeated(3, "refused.test", "AAAA"),
      ];
      const seen = latency().count;
      await ask(family, questions, 65);
      expect(queries("A") - asked.a).toBe(37);
      expect(queries("AAAA") - asked.aaaa).toBe(23);
      expect(queries("MX") - asked.mx).toBe(5);
      expect(allQueries() - asked.all).toBe(65);
      expect(responses("A", "NOERROR") - asked.ok).toBe(30);
      expect(responses("AAAA", "NOERROR") - asked.ok6).toBe(20);
      expect(responses("A", "NXDOMAIN") - asked.none).toBe(7);
      expect(responses("MX", "SERVFAIL") - asked.fail).toBe(5);
      expect(responses("AAAA", "REFUSED") - asked.refused).toBe(3);
      expect(latency().count - seen).toBe(65);
    });

    test("names are learnt from answers", async () => {
      const questions = [
        { name: "web.test", type: "A" },
        { name: "Shop.Test", type: "AAAA" },
      ] as const;
      const answers = await ask(family, questions, 2);
      expect(answers).toContainEqual({ name: "web.test", address: answerV4, ttlSeconds: answerTtlSeconds });
      expect(answers).toContainEqual({ name: "shop.test", address: answerV6, ttlSeconds: answerTtlSeconds });
      expect(answers.length).toBe(2);
    });

    test("an error stands on the records of query and response", async () => {
      const client = pods.podA[family];
      using undoSockets = new DisposableStack();
      await observer.tick(); // Takes what other tests left.
      const asked = [
        { name: "unknown.test", code: "NXDOMAIN" },
        { name: "web.test", code: undefined },
        { name: "failing.test", code: "SERVFAIL" },
      ].map(({ name, code }, id) => {
        port += 1;
        const socket = undoSockets.use(openUdp(pods.podA.at, { address: client, port }));
        socket.send({ address: pods.outside[family], port: 53 }, dnsQuery(id, name, "A"));
        return { code, port, socket };
      });
      // A tick between query and response would make a record of the query alone.
      for (const { socket } of asked) while (socket.received().packets === 0) await Bun.sleep(1);
      const flows = await records();
      for (const { code, port: own } of asked)
        expect(errorsOf(flows, client, own)).toEqual({ query: [code], response: [code] });
    });

    test("latency is the server's", async () => {
      const before = latency();
      const startMs = performance.now();
      await ask(family, repeated(10, "slow.test", "A"), 10);
      expect(latency().count - before.count).toBe(10);
      const meanMs = ((latency().sum - before.sum) * 1000) / 10;
      expect(meanMs).toBeGreaterThanOrEqual(slowMs - 2); // Timers of the server count whole milliseconds.
      expect(meanMs).toBeLessThan(performance.now() - startMs);
    });
  });

  test("a query that is asked again went unanswered", async () => {
    const before = { unanswered: observer.latest.dns?.unanswered ?? 0, queries: queries("SVCB") };
    using socket = openUdp(pods.podA.at, { address: pods.podA.v4, port: 50_001 });
    for (const id of [1, 1, 1, 2])
      socket.send({ address: pods.outside.v4, port: 53 }, dnsQuery(id, "silent.test", "SVCB"));
    await observer.until(() => queries("SVCB") >= before.queries + 4);
    expect(queries("SVCB") - before.queries).toBe(4);
    expect((observer.latest.dns?.unanswered ?? 0) - before.unanswered).toBe(2);
  });

  test.each(["v4", "v6"] as const)("an error over TCP, %s", async (family) => {
    await observer.tick();
    await askOverTcp(pods.podB.at, pods.outside[family], { id: 9, name: "refused.test", type: "AAAA" });
    const flows = await records();
    const [answer] = flows.filter(
      ({ source, protocol }) => source === pods.outside[family] && protocol === 6,
    );
    expect(errorsOf(flows, pods.podB[family], answer?.destinationPort ?? 0)).toEqual({
      query: ["REFUSED"],
      response: ["REFUSED"],
    });
  });

  test.each(["v4", "v6"] as const)("over TCP, %s", async (family) => {
    const before = {
      mx: queries("MX"),
      a: queries("A"),
      ok: responses("A", "NOERROR"),
      count: latency().count,
    };
    for (const id of [1, 2, 3])
      await askOverTcp(pods.podB.at, pods.outside[family], { id, name: "web.test", type: "A" });
    await askOverTcp(pods.podB.at, pods.outside[family], { id: 4, name: "failing.test", type: "MX" });
    await observer.until(() => latency().count >= before.count + 4);
    expect(queries("A") - before.a).toBe(3);
    expect(queries("MX") - before.mx).toBe(1);
    expect(responses("A", "NOERROR") - before.ok).toBe(3);
    expect(latency().count - before.count).toBe(4);
  });
});
