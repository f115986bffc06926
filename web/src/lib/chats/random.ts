// A small seeded generator for tests: the same seed gives the same run.

/** Numbers from 0 to 1. */
export function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The seeds of a run: 1 to `count`, or only the one that SEED names. */
export function seeds(count: number): number[] {
  const named = process.env['SEED'];
  return named ? [Number(named)] : Array.from({ length: count }, (_, i) => i + 1);
}
