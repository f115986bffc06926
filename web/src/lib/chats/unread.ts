// How many messages are unread: what the server said last, and what happened since. Pure.

import type { UserId } from '../api/ids';
import { mentionsUser, Role, type Event, type ReadBase } from './model';
import type { Chat } from './log';
import { around } from './parts';

/** Past this many events the counts are asked for rather than made here. */
export const RECOUNT_EVENTS_MAX = 2000;

/** The server counts no more mentions than these; so many may be more. */
export const MENTIONS_COUNTED_MAX = 1000;

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
  const { message, act, actorId } = event;
  if (message && actorId === me) return spoken(chat, event.seq);
  if (message) {
    if (message.deletion) return chat;
    return mentioned({ ...chat, unread: chat.unread + 1 }, weight(event, chat, me));
  }
  switch (act?.kind) {
    case 'edited':
      return edited(chat, event, trueRow(chat, act.target, shelf), me);
    case 'deleted':
      return act.targets.reduce((next, target) => uncounted(next, target, trueRow(next, target, shelf), me), chat);
    case 'role': {
      // To another role other mentions are meant.
      const isOwn = act.userId === me || (actorId === me && act.role === Role.OWNER);
      return isOwn && chat.unread > 0 ? { ...chat, readStale: true } : chat;
    }
    default:
      return chat;
  }
}

/** Whether a row counts as much as the one that is held of the same message, if it counts at all. */
export function weighsAlike(event: Event, held: Event | undefined, chat: Chat, me: UserId): boolean {
  if (!held?.message || event.seq <= chat.read.seen || event.actorId === me) return true;
  const isGone = (e: Event) => e.message?.deletion !== undefined;
  return isGone(event) === isGone(held) && weight(event, chat, me) === weight(held, chat, me);
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

/** A message as it is at the tip; undefined when it is not held, or held as it was before. */
function trueRow(chat: Chat, seq: number, shelf: Shelf): Event | undefined {
  const part = around(chat.parts, seq);
  return part && part.trueAt >= chat.tip ? shelf.get(seq) : undefined;
}

/** 1 when a message mentions the person. */
function weight({ message }: Event, chat: Chat, me: UserId): number {
  return mentionsUser(message?.mentions, me, chat.role) ? 1 : 0;
}

/** The chat with so many more mentions. */
function mentioned(chat: Chat, by: number): Chat {
  // From a bound nobody can count down.
  if (by < 0 && chat.mentions >= MENTIONS_COUNTED_MAX) return { ...chat, readStale: true };
  return { ...chat, mentions: Math.max(0, Math.min(chat.mentions + by, MENTIONS_COUNTED_MAX)) };
}

/** The chat after an edit: a message that is unread mentions others from then on. */
function edited(chat: Chat, event: Event, held: Event | undefined, me: UserId): Chat {
  const { act } = event;
  if (act?.kind !== 'edited' || act.target <= chat.read.seen) return chat;
  const now = mentionsUser(act.mentions, me, chat.role) ? 1 : 0;
  if (held?.message) {
    if (held.message.changedSeq < event.seq) return mentioned(chat, now - weight(held, chat, me));
    // Taken in with the edit in it.
    if (act.target > chat.read.asOf) return chat;
  }
  // Whom it mentioned before can not be known here.
  return { ...chat, readStale: chat.readStale || chat.mentions > 0 || now > 0 };
}

/** The chat without an unread message that was deleted. Own messages are never beyond what was seen. */
function uncounted(chat: Chat, target: number, held: Event | undefined, me: UserId): Chat {
  if (target <= chat.read.seen) return chat;
  const gone = held?.message?.deletion !== undefined;
  // Taken in when it was deleted already, so it was not counted.
  if (gone && target > chat.read.asOf) return chat;
  const next = { ...chat, unread: Math.max(0, chat.unread - 1) };
  if (held && !gone) return mentioned(next, -weight(held, chat, me));
  // Whom it mentioned can no longer be known here.
  return { ...next, readStale: chat.readStale || chat.mentions > 0 };
}

/** Who speaks has seen everything before. */
function spoken(chat: Chat, seq: number): Chat {
  return { ...chat, read: { seen: seq, unread: 0, mentions: 0, asOf: seq }, unread: 0, mentions: 0, readStale: false };
}
