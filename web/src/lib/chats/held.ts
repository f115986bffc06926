// What becomes of a chat's row when news of its log arrives. Pure: the store puts the result away.

import type { Chat, Event, ToldChat } from './model';
import { add, around } from './ranges';
import { covered, type PageRequest } from './timeline';

type Held = Pick<Chat, 'head' | 'synced' | 'ranges'>;

/** An event as it happens. `prev` is the seq before it that this client should have. */
export function withEvent<H extends Held>(chat: H, prev: number, seq: number): H {
  // Between prev and seq there is nothing for this client, so holding the event holds all of that.
  const ranges = add(chat.ranges, Math.min(prev + 1, seq), seq);
  return settle({ ...chat, head: Math.max(chat.head, seq), ranges });
}

/** The acknowledgement of an own message: it is in the log, what is before it may not be here. */
export function withOwn<H extends Held>(chat: H, seq: number): H {
  return withEvent(chat, seq - 1, seq);
}

/** A page of the log; pages have no holes. */
export function withPage<H extends Held>(chat: H, request: PageRequest, events: readonly Event[], head: number): H {
  const first = events[0];
  const last = events.at(-1);
  const ranges = first && last ? add(chat.ranges, ...covered(request, first, last, head)) : [...chat.ranges];
  return settle({ ...chat, head: Math.max(chat.head, head), ranges });
}

/** Leaves everything up to the head to be read when it is needed. */
export function deferred<H extends Held>(chat: H, head: number): H {
  return settle({ ...chat, head: Math.max(chat.head, head), synced: Math.max(chat.synced, head) });
}

/** Whether an event at or before the head was lost on the way. */
export function lacks(chat: Held): boolean {
  return chat.synced < chat.head;
}

/** A chat that was not known here. */
export function fresh(told: ToldChat): Chat {
  return {
    id: told.id,
    memberIds: told.memberIds,
    createdAtMs: told.createdAtMs,
    head: told.head,
    synced: told.head,
    ranges: [],
    seen: 0,
    activeAtMs: told.last?.atMs ?? told.createdAtMs,
    unknown: 0,
    ...(told.last && { last: told.last }),
  };
}

/** The row with its newest event, for the list. */
export function withLast(chat: Chat, event: Event): Chat {
  if (chat.last && chat.last.seq >= event.seq) return chat;
  return { ...chat, last: event, activeAtMs: Math.max(chat.activeAtMs, event.atMs) };
}

function settle<H extends Held>(chat: H): H {
  const next = around(chat.ranges, chat.synced + 1);
  return next ? { ...chat, synced: next[1] } : chat;
}
