// Whether every packet is counted, at any number of flows, with the default table.

import { totals as totalsLayout } from "../../bpf/contract.gen.ts";
import { readTotals } from "../../bpf/uplink-totals.ts";
import { tcpV4 } from "./frames.ts";
import { openBenchKernel, stayOnCpu } from "./kernel.ts";
import { openDatapath, openDriver, openFlows } from "./programs.ts";
import type { BenchRow } from "./row.ts";

const FLOWS = [1000, 100_000, 1_000_000];
const PACKETS = 2_000_000;

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(3)} %`;

export async function totalsBench(): Promise<BenchRow[]> {
  using owner = new DisposableStack();
  owner.use(stayOnCpu(0)); // All of it meets the shard of one CPU.
  const kernel = openBenchKernel();
  const driver = openDriver(kernel, owner);
  const datapath = openDatapath(kernel, owner);
  const { possible } = datapath.cpus;
  const flows = openFlows(datapath);
  const uplink = flows.object.programFd("fovea_in_up");
  const words = new BigUint64Array(
    flows.object.mapArray("uplink_totals", possible, totalsLayout.size, false).buffer,
  );
  const total = (): number => readTotals(words, possible, []).forward.ingress.packets;
  const rows: BenchRow[] = [];
  for (const count of FLOWS) {
    const before = total();
    driver.randomFlows(count);
    driver.run(uplink, tcpV4(), PACKETS);
    let spilled = 0;
    const read = flows.read(() => {
      spilled++;
    });
    spilled -= read.records;
    const aggregated = read.packets + read.spilled;
    const untracked = read.untracked.reduce((sum, packets) => sum + packets, 0);
    if (read.seen !== aggregated + untracked)
      throw new Error(`${read.seen} packets seen, ${aggregated} aggregated, ${untracked} untracked`);
    rows.push({
      name: `packets in totals, ${count.toLocaleString("en")} random flows`,
      value: (100 * (total() - before)) / PACKETS,
      unit: "%",
      budget: { min: 100, max: 100 },
      note: `in flow records ${percent(aggregated, PACKETS)}, of these by ${spilled.toLocaleString("en")} spilled records ${percent(read.spilled, PACKETS)}; untracked ${percent(untracked, PACKETS)}; ${PACKETS.toLocaleString("en")} packets on one CPU between two reads`,
    });
    flows.read(() => {});
    await Bun.sleep(0);
  }
  return rows;
}
