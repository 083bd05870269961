// Where a key stands in the text of a YAML document.

import { isMap, isNode, isScalar, isSeq } from "yaml";

/** Offset of the key, or of the nearest section above it that can be found; undefined when there is none. */
export function offsetOf(contents: unknown, path: readonly PropertyKey[]): number | undefined {
  const [name, ...rest] = path;
  if (isSeq(contents) && typeof name === "number") {
    const item = contents.items[name];
    return offsetOf(item, rest) ?? (isNode(item) ? item.range?.[0] : undefined);
  }
  if (!isMap(contents)) return undefined;
  const pair = contents.items.find(({ key }) => isScalar(key) && String(key.value) === String(name));
  return offsetOf(pair?.value, rest) ?? (isScalar(pair?.key) ? pair.key.range?.[0] : undefined);
}
