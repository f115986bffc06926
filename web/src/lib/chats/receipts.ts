// How far a chat has reached its members. Both numbers only grow, so order and repeats do not matter.

import type { UserId } from '../api/ids';
import type { Receipt } from './model';

export type Receipts = ReadonlyMap<UserId, Receipt>;

/** The maximum of each; the first one itself when nothing moved. */
export function merged(receipts: Receipts, news: Receipts): Receipts {
  let out: Map<UserId, Receipt> | undefined;
  for (const [user, { delivered, seen }] of news) {
    const held = receipts.get(user) ?? { delivered: 0, seen: 0 };
    const next = { delivered: Math.max(held.delivered, delivered, seen), seen: Math.max(held.seen, seen) };
    if (next.delivered === held.delivered && next.seen === held.seen) continue;
    out ??= new Map(receipts);
    out.set(user, next);
  }
  return out ?? receipts;
}

/** Who has seen a message, and whom it has reached without having been seen. */
export function reached(receipts: Receipts, seq: number, me: UserId): { seen: UserId[]; delivered: UserId[] } {
  const others = [...receipts].filter(([user]) => user !== me);
  return {
    seen: others.filter(([, r]) => r.seen >= seq).map(([user]) => user),
    delivered: others.filter(([, r]) => r.seen < seq && r.delivered >= seq).map(([user]) => user),
  };
}
