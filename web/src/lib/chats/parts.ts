// Parts of a log: ranges of seqs of which every event is held, and up to when each is true. Pure, small,
// sorted; they never overlap.

/** From and to, both included. Every change of its messages up to `trueAt` is in it. */
export interface Part {
  from: number;
  to: number;
  trueAt: number;
}

/** The part that holds a seq. */
export function around(parts: readonly Part[], seq: number): Part | undefined {
  return parts.find((part) => part.from <= seq && seq <= part.to);
}

/** How many events the parts hold. */
export function size(parts: readonly Part[]): number {
  return parts.reduce((sum, part) => sum + part.to - part.from + 1, 0);
}

/**
 * Puts a part in. Where it overlaps another one, the one that is true for longer stays; neighbours that are
 * equally true at `tip` become one.
 */
export function place(parts: readonly Part[], part: Part, tip: number): Part[] {
  let pieces = [part];
  const others: Part[] = [];
  for (const old of parts) {
    if (old.trueAt >= part.trueAt) {
      pieces = pieces.flatMap((piece) => without(piece, old));
      others.push(old);
    } else others.push(...without(old, part));
  }
  return joined([...others, ...pieces], tip);
}

/** Neighbours as one, where both are true at the tip, or as old as each other. */
export function joined(parts: readonly Part[], tip: number): Part[] {
  const out: Part[] = [];
  for (const part of [...parts].sort((a, b) => a.from - b.from || a.to - b.to)) {
    const before = out.at(-1);
    const alike = before && (Math.min(before.trueAt, part.trueAt) >= tip || before.trueAt === part.trueAt);
    if (before && alike && before.to + 1 === part.from) {
      out[out.length - 1] = { from: before.from, to: part.to, trueAt: Math.min(before.trueAt, part.trueAt) };
    } else out.push(part);
  }
  return out;
}

/** What is left of a part when the seqs of another are taken out. */
function without(part: Part, other: Part): Part[] {
  if (other.to < part.from || part.to < other.from || other.from > other.to) return [part];
  const left = { ...part, to: other.from - 1 };
  const right = { ...part, from: other.to + 1 };
  return [left, right].filter((piece) => piece.from <= piece.to);
}
