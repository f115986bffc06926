// How long to wait before connecting again: exponential with full jitter, so that clients that lost the
// server together do not come back together.

const BASE_MS = 500;
const CAP_MS = 30_000;

/** The wait before attempt `attempt`, which counts from 0. `random` gives 0 to 1. */
export function backoff(attempt: number, random: () => number): number {
  const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(attempt, 16));
  return Math.round(random() * ceiling);
}
