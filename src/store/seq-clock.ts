// When rows were stored, more finely than their batches tell: of those that were written since the file was opened.

/** When there are more, neighbours become one, and from then on the times are twice as coarse. */
const marksMax = 4096;

type Mark = { readonly seq: number; readonly at: number };

export type SeqClock = {
  /** All rows up to `seq` are stored at `at` (epoch milliseconds), those after the last mark were by then. */
  mark(seq: number, at: number): void;
  /** Undefined for rows that were there when the file was opened. */
  storedAt(seq: number): number | undefined;
  /** The first row that was stored at or after `at`; undefined when it may be one that was there before. */
  seqAt(at: number): number | undefined;
  /** Another file: rows up to `seq` are in it. */
  restart(seq: number): void;
};

export function createSeqClock(): SeqClock {
  let begin = Number.POSITIVE_INFINITY;
  let marks: Mark[] = [];
  let gapMs = 0;
  const first = (reaches: (mark: Mark) => boolean): number => {
    let low = 0;
    for (let high = marks.length; low < high; ) {
      const middle = (low + high) >> 1;
      const mark = marks[middle];
      if (mark !== undefined && reaches(mark)) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  return {
    mark(seq, at) {
      const before = marks.at(-2);
      if (seq <= (marks.at(-1)?.seq ?? begin)) return;
      if (before !== undefined && at >= before.at && at - before.at < gapMs) marks.pop();
      marks.push({ seq, at });
      if (marks.length <= marksMax) return;
      gapMs = Math.max(1000, 2 * gapMs);
      marks = marks.filter((_, index) => index % 2 === 1);
    },
    storedAt: (seq) => (seq > begin ? marks[first((mark) => mark.seq >= seq)]?.at : undefined),
    seqAt(at) {
      const [oldest] = marks;
      if (oldest === undefined || at <= oldest.at) return undefined;
      const found = first((mark) => mark.at >= at);
      return (marks[found - 1]?.seq ?? begin) + 1;
    },
    restart(seq) {
      begin = seq;
      marks = [];
      gapMs = 0;
    },
  };
}
