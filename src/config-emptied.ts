// Files of the configuration that are empty or gone where something stood in them before: what they would come to then
// is the defaults, which nobody wrote.

import type { ConfigProblem } from "./config.ts";
import { readTextIfThere } from "./text-file.ts";

type Content = "some" | "none" | "absent";

function contentOf(file: string): Content {
  try {
    const text = readTextIfThere(file);
    if (text === undefined) return "absent";
    return text.trim() === "" ? "none" : "some";
  } catch {
    return "some"; // Who needs it tells why it cannot be read.
  }
}

export const hasContent = (file: string): boolean => contentOf(file) === "some";

/**
 * Of a file that had content. A copy empties its target before it writes, an editor moves the old file away before the
 * new one comes, and a full disk ends either of them there.
 */
export function emptiedProblems(
  file: string,
  { mayGo, way }: { readonly mayGo: boolean; readonly way: string },
): readonly ConfigProblem[] {
  const content = contentOf(file);
  if (content === "some" || (content === "absent" && mayGo)) return [];
  const state = content === "none" ? "is empty" : "is gone";
  return [{ file, key: "", message: `${state}; what was in force stays. For the defaults ${way}` }];
}
