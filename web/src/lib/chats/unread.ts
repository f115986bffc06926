// How many messages are unread: what the server said last, and what happened since. Pure.

import type { UserId } from '../api/ids';
import { mentionsUser, type Event, type ReadBase } from './model';
import type { Chat } from './log';
import { around } from './parts';

/** Past this many events the counts are asked for rather than made here. */
export const RECOUNT_EVENTS_MAX = 2000;

/** The held events of one chat, to be read and written. */
export interface Shelf {
  get(seq: number): Event | undefined;
  put(event: Event): void;
}

/** Of two bases the one that holds. */
export function newer(base: ReadBase, than: ReadBase): boolean {
  return base.seen > than.seen || (base.seen === than.seen && base.asOf >= than.asOf);
}

/** The chat after an event that is being taken in, whose targets are still as they were before it. */
export function counted(chat: Chat, event: Event, shelf: Shelf, me: UserId): Chat {
  if (event.seq <= chat.read.asOf) return chat;
  if (event.message && event.actorId === me) return spoken(chat, event.seq);
  if (event.message) {
    if (event.message.deletion) return chat;
    const mention = mentionsUser(event.message.mentions, me, chat.role) ? 1 : 0;
    return { ...chat, unread: chat.unread + 1, mentions: chat.mentions + mention };
  }
  if (event.act?.kind !== 'deleted') return chat;
  let next = chat;
  for (const target of event.act.targets) next = uncounted(next, target, shelf.get(target), me);
  return next;
}

/** The chat with another base, and with what is held since counted onto it. */
export function rebased(chat: Chat, base: ReadBase, shelf: Shelf, me: UserId): Chat {
  const next: Chat = { ...chat, read: base, unread: base.unread, mentions: base.mentions, readStale: false };
  if (base.asOf >= chat.tip) return next;
  if (chat.tip - base.asOf > RECOUNT_EVENTS_MAX) return { ...next, readStale: true };
  const live = around(chat.parts, chat.tip);
  if (!live || live.trueAt < chat.tip || live.from > base.asOf + 1) return { ...next, readStale: true };
  return recounted(next, shelf, me);
}

/** Everything up to here was seen on this device, and what is held beyond it is counted. */
export function seenUpTo(chat: Chat, seq: number, shelf: Shelf, me: UserId): Chat {
  const seen = Math.min(seq, chat.tip);
  if (seen < chat.read.seen) return chat;
  if (seen === chat.tip) return rebased(chat, { seen, unread: 0, mentions: 0, asOf: chat.tip }, shelf, me);
  // Counted from what was seen, as if the server had said so there and then.
  return rebased(chat, { seen, unread: 0, mentions: 0, asOf: seen }, shelf, me);
}

/** Counts the held events after the base, in order. What was deleted meanwhile was never counted. */
function recounted(chat: Chat, shelf: Shelf, me: UserId): Chat {
  let next = chat;
  for (let seq = chat.read.asOf + 1; seq <= chat.tip; seq += 1) {
    const event = shelf.get(seq);
    if (!event) continue;
    if (event.act?.kind === 'deleted') {
      for (const target of event.act.targets) {
        if (target <= next.read.asOf) next = uncounted(next, target, undefined, me);
      }
    } else next = counted(next, event, shelf, me);
  }
  return next;
}

/** The chat without an unread message that was deleted. Own messages are never beyond what was seen. */
function uncounted(chat: Chat, target: number, held: Event | undefined, me: UserId): Chat {
  if (target <= chat.read.seen) return chat;
  const gone = held?.message?.deletion !== undefined;
  // Taken in when it was deleted already, so it was not counted.
  if (gone && target > chat.read.asOf) return chat;
  const unread = Math.max(0, chat.unread - 1);
  if (held && !gone) {
    const mention = mentionsUser(held.message?.mentions, me, chat.role) ? 1 : 0;
    return { ...chat, unread, mentions: Math.max(0, chat.mentions - mention) };
  }
  // Whom it mentioned can no longer be known here.
  return { ...chat, unread, readStale: chat.readStale || chat.mentions > 0 };
}

/** Who speaks has seen everything before. */
function spoken(chat: Chat, seq: number): Chat {
  return { ...chat, read: { seen: seq, unread: 0, mentions: 0, asOf: seq }, unread: 0, mentions: 0, readStale: false };
}
