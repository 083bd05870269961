// A service for the tests: does one odd thing, and tells in a file how far it is.

import { writeFileSync } from "node:fs";
import { hostService } from "../../windows/service-host.ts";

const [name = "", oddity = "", file = "", stopMs = "20000"] = process.argv.slice(2);
const tell = (text: string) => writeFileSync(file, text);

function block(ms: number): void {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs);
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

const code = await hostService({
  name,
  stopMs: Number(stopMs),
  overdue: () => tell("overdue"),
  work: async ({ stop, running }) => {
    if (oddity === "refuses") return 7;
    running();
    tell("running");
    await Bun.sleep(300); // Until the state is seen.
    if (oddity === "busy" || oddity === "hung") {
      tell("busy");
      block(oddity === "busy" ? 8000 : 60_000);
    }
    if (oddity === "fails") return 9;
    await aborted(stop);
    if (oddity === "deaf") await Bun.sleep(60_000);
    tell("stopped");
    return oddity === "fails-late" ? 5 : 0;
  },
});
process.exit(code);
