// Which series there are: each under a small number in the file, known by its name and labels.

/** A series that is sampled. */
export type Series = {
  readonly name: string;
  /** As JSON, names in order: one text for the same labels. */
  readonly labels: string;
  /** In the open file; 0 while it has none. */
  id: number;
  /** The newest block that is known to hold it; undefined when that is not known. */
  lastBlock: number | undefined;
  /** The number of the last step that was handed over with it. */
  seen: number;
  /** Nothing has it any more: its name and labels are a new series when they come again. */
  gone: boolean;
};

export type Labels = Readonly<Record<string, string>>;

export type Sample = { readonly name: string; readonly labels: Labels; readonly value: number };

export function labelsText(labels: Labels): string {
  const names = Object.keys(labels).sort((a, b) => (a < b ? -1 : 1));
  return `{${names.map((name) => `${JSON.stringify(name)}:${JSON.stringify(labels[name])}`).join(",")}}`;
}

export type SeriesRegistry = {
  /** Undefined when there is no room for one more. An object of labels must not be changed afterwards. */
  find(name: string, labels: Labels): Series | undefined;
  /** A block that holds these series is in the file. */
  inBlock(block: number, ids: readonly number[]): void;
  /** A file is opened: the numbers of the one before are void. */
  restart(rows: Iterable<readonly [id: number, name: string, labels: string]>): void;
  enter(series: Series, id: number): void;
  remove(series: Series): void;
  /** Some of the series in turn, beginning again after the last. */
  some(count: number): readonly Series[];
  /** Removes all that no file has and `unused` says so of. */
  forget(unused: (series: Series) => boolean): void;
  readonly size: number;
};

export function createSeriesRegistry(seriesMax: number): SeriesRegistry {
  const byKey = new Map<string, Series>();
  const byId = new Map<number, Series>();
  // Whoever hands over the same object means the same labels: to put them in order takes most of the time of a step.
  const byLabels = new WeakMap<Labels, Series>();
  let walk = byKey.values();
  const keyOf = (name: string, labels: string): string => name + labels; // No name has a brace.

  const make = (name: string, labels: string): Series => {
    const series: Series = { name, labels, id: 0, lastBlock: undefined, seen: 0, gone: false };
    byKey.set(keyOf(name, labels), series);
    return series;
  };
  const enter = (series: Series, id: number): void => {
    series.id = id;
    byId.set(id, series);
  };
  const remove = (series: Series): void => {
    series.gone = true;
    byKey.delete(keyOf(series.name, series.labels));
    byId.delete(series.id);
  };

  return {
    find(name, labels) {
      const before = byLabels.get(labels);
      if (before !== undefined && before.name === name && !before.gone) return before;
      const text = labelsText(labels);
      const known = byKey.get(keyOf(name, text));
      const series = known ?? (byKey.size < seriesMax ? make(name, text) : undefined);
      if (series !== undefined) byLabels.set(labels, series);
      return series;
    },
    inBlock(block, ids) {
      for (const id of ids) {
        const series = byId.get(id);
        if (series !== undefined) series.lastBlock = block;
      }
    },
    restart(rows) {
      byId.clear();
      for (const series of byKey.values()) {
        series.id = 0;
        series.lastBlock = undefined;
      }
      // Those of the file come in beyond the bound: the file would refuse them a second time.
      for (const [id, name, labels] of rows) enter(byKey.get(keyOf(name, labels)) ?? make(name, labels), id);
    },
    enter,
    remove,
    some(count) {
      const found: Series[] = [];
      while (found.length < Math.min(count, byKey.size)) {
        const next = walk.next();
        if (next.done) walk = byKey.values();
        else found.push(next.value);
      }
      return found;
    },
    forget(unused) {
      for (const series of byKey.values()) if (series.id === 0 && unused(series)) remove(series);
    },
    get size() {
      return byKey.size;
    },
  };
}
