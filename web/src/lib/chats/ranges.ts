// Sets of seqs as sorted ranges that neither overlap nor touch.

/** From and to, both included. */
export type Range = readonly [from: number, to: number];

/** The set with a range added. */
export function add(ranges: readonly Range[], from: number, to: number): Range[] {
  if (from > to) return [...ranges];
  const before: Range[] = [];
  const after: Range[] = [];
  for (const range of ranges) {
    if (range[1] < from - 1) before.push(range);
    else if (range[0] > to + 1) after.push(range);
    else [from, to] = [Math.min(from, range[0]), Math.max(to, range[1])];
  }
  return [...before, [from, to], ...after];
}

/** The range that holds a seq. */
export function around(ranges: readonly Range[], seq: number): Range | undefined {
  return ranges.find(([from, to]) => from <= seq && seq <= to);
}

/** The newest seq in the set; 0 when it is empty. */
export function newest(ranges: readonly Range[]): number {
  return ranges.at(-1)?.[1] ?? 0;
}
