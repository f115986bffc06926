// From items to what the eye sees: days, and groups of messages by one person.

import { dayOf } from '../ui/time';
import type { Item } from './timeline';

/** Messages of one person closer than this stand together. */
const GROUP_MS = 5 * 60_000;

export interface Row {
  item: Item;
  /** The first of a day. */
  newDay: boolean;
  /** The first and the last of a group. */
  first: boolean;
  last: boolean;
  /** The first one since the last visit. */
  firstNew: boolean;
  /** The first one ever. */
  begin: boolean;
}

export function toRows(items: readonly Item[], atStart: boolean, firstNew: number | undefined): Row[] {
  return items.map((item, i) => {
    const before = items[i - 1];
    const after = items[i + 1];
    const isNew = firstNew !== undefined && item.seq !== undefined && item.seq >= firstNew;
    const wasNew = firstNew !== undefined && before?.seq !== undefined && before.seq >= firstNew;
    return {
      item,
      newDay: !before || dayOf(before.atMs) !== dayOf(item.atMs),
      first: !before || !together(before, item),
      last: !after || !together(item, after),
      firstNew: isNew && !wasNew && !item.own,
      begin: i === 0 && atStart,
    };
  });
}

function together(a: Item, b: Item): boolean {
  if (a.kind !== 'message' || b.kind !== 'message') return false;
  return a.actorId === b.actorId && dayOf(a.atMs) === dayOf(b.atMs) && b.atMs - a.atMs < GROUP_MS;
}
