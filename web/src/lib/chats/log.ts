// What is held of a chat, and how it stays true: the rules of docs/protocol/sync.md as a state machine. Pure:
// a chat and its shelf of events go in, the chat as it is then comes out. The store puts both away.

import type { ChatId, UserId } from '../api/ids';
import { fold, targetsOf } from './fold';
import { Role, type Details, type Event, type ReadBase, type Settings, type ToldChat } from './model';
import { around, joined, place, size, type Part } from './parts';
import { counted, newer, rebased, weighsAlike, type Shelf } from './unread';

/** A chat as it is stored here. */
export interface Chat extends Details {
  id: ChatId;
  role: Role;
  joinedAtMs: number;
  settings: Settings;
  /** Up to where the details were told; older events do not change them. */
  detailsAt: number;
  /** How far the log is known to go. Above the tip there is a hole. */
  head: number;
  /** The end of what is true now. */
  tip: number;
  parts: Part[];
  /** Events beyond a hole. */
  aside: Live[];
  /** Messages that the person deleted for themselves before they came here; the newest ones. */
  toHide: number[];
  /** What the server said last of how far was read. */
  read: ReadBase;
  /** The counts at the tip. */
  unread: number;
  mentions: number;
  /** What is held does not tell the counts: they are asked for anew. */
  readStale: boolean;
  /** Seen here, and not yet told to the server; 0 when it knows. */
  toMark: number;
  /** Up to where the server was told that the chat has come. */
  delivered: number;
  last?: Event;
  /** When something was last said; the list is in this order. */
  activeAtMs: number;
  /** 1 when only an event told of this chat, and what it is is not known yet. */
  unknown: 0 | 1;
  /** The person is in it no longer; nothing else is held. `seq` is that of the own log at which that is so. */
  left?: { reason: number; by: UserId; seq?: number };
}

/** An event as it happened; `prev` is the seq before it. */
export interface Live {
  prev: number;
  event: Event;
}

/** A part of the log to be read: after a seq, or before one. */
export type PageRequest =
  | { kind: 'after'; seq: number; limit: number }
  | { kind: 'before'; seq: number; limit: number };

/** Changed messages, the one that changed first coming first, up to those that changed at `through`. */
export interface ChangesPage {
  events: readonly Event[];
  through: number;
  more: boolean;
}

/** A hole up to this many events is filled; past it the tip jumps. */
export const FILL_EVENTS_MAX = 1000;
/** Events that are kept beyond a hole; what is more is read with the hole. */
const ASIDE_EVENTS_MAX = 200;

/** Hidden messages to come that are remembered of a chat. */
const TO_HIDE_MAX = 200;

/** A chat that is new here. */
export function fresh(told: ToldChat): Chat {
  const { draft: _, last, head, ...rest } = told;
  const { read } = told;
  return {
    ...rest,
    ...(last && { last }),
    detailsAt: head,
    head,
    tip: head,
    parts: [],
    aside: [],
    toHide: [],
    unread: read.unread,
    mentions: read.mentions,
    readStale: read.asOf < head,
    toMark: 0,
    delivered: 0,
    activeAtMs: Math.max(last?.atMs ?? told.joinedAtMs, told.createdAtMs),
    unknown: 0,
  };
}

/** An event as it happens. */
export function take(chat: Chat, { prev, event }: Live, shelf: Shelf, me: UserId): Chat {
  if (event.seq <= chat.tip) return chat;
  const known = { ...chat, head: Math.max(chat.head, event.seq) };
  if (chat.unknown || prev > chat.tip) return { ...known, aside: setAside(chat.aside, { prev, event }) };
  return behind(takeIn(known, event, shelf, me), shelf, me);
}

/** A page of the log; pages have no holes, and hold every change up to `head`. */
export function page(chat: Chat, request: PageRequest, events: readonly Event[], head: number, shelf: Shelf, me: UserId): Chat {
  const first = events[0];
  const last = events.at(-1);
  let next: Chat = { ...chat, head: Math.max(chat.head, head) };
  if (!first || !last) return next;
  const from = request.kind === 'after' ? request.seq + 1 : first.seq;
  const to = Math.min(chat.tip, request.kind === 'after' ? last.seq : Math.max(last.seq, request.seq - 1));
  if (from <= to) {
    for (const event of events) {
      if (event.seq > to) continue;
      // What was counted is told otherwise now: what the counts are at the tip is not known here.
      if (!weighsAlike(event, shelf.get(event.seq), chat, me)) next.readStale = true;
      keepNewest(event, chat, shelf);
    }
    next.parts = place(next.parts, { from, to, trueAt: head }, next.tip);
  }
  // What begins at the tip, or before it, goes beyond it without a hole.
  let prev = from - 1;
  for (const event of events) {
    if (event.seq > next.tip && prev <= next.tip) next = takeIn(next, event, shelf, me);
    prev = event.seq;
  }
  return behind(next, shelf, me);
}

/**
 * Messages of a held part as they are now, to be asked for page by page: only the last page says up to where the
 * part is true, because a message that changed early and again late is not among the early ones.
 */
export function changes(chat: Chat, asked: Part, { events, through, more }: ChangesPage, shelf: Shelf, me: UserId): Chat {
  let next = chat;
  for (const event of events) {
    if (!around(chat.parts, event.seq)) continue;
    if (!weighsAlike(event, shelf.get(event.seq), chat, me)) next = { ...chat, readStale: true };
    keepNewest(event, chat, shelf);
  }
  if (more) return { ...next, head: Math.max(chat.head, through) };
  // Nobody else may have cut or renewed the part meanwhile; what is left of it is true now.
  const parts = chat.parts.map((part) => {
    const inside = asked.from <= part.from && part.to <= asked.to;
    return inside && part.trueAt >= asked.trueAt && part.trueAt < through ? { ...part, trueAt: through } : part;
  });
  return { ...next, head: Math.max(chat.head, through), parts: joined(parts, chat.tip) };
}

/**
 * A part that is true at the tip, as it was read anew; true at `head`. Undefined when it is not true at the tip
 * any more, or more has happened since than the answer holds.
 */
export function healed(chat: Chat, { from, to }: { from: number; to: number }, events: readonly Event[], head: number, shelf: Shelf): Chat | undefined {
  const part = around(chat.parts, from);
  if (!part || part.to < to || part.trueAt < chat.tip || head < chat.tip) return undefined;
  for (const event of events) {
    // Nobody unhides: an answer that does not know it is older than the mark.
    shelf.put(shelf.get(event.seq)?.message?.hidden ? hidden(event) : unseen(event, chat));
  }
  const last = chat.last && around([{ ...part, from, to }], chat.last.seq) ? shelf.get(chat.last.seq) : chat.last;
  return { ...chat, head: Math.max(chat.head, head), readStale: true, ...(last && { last }) };
}

/** A chat as the server tells it now. */
export function told(chat: Chat | undefined, news: ToldChat, shelf: Shelf, me: UserId): Chat {
  if (!chat || chat.left) return fresh(news);
  if (chat.unknown) {
    const { aside, toHide } = chat;
    return behind({ ...fresh(news), aside, toHide, head: Math.max(chat.head, news.head) }, shelf, me);
  }
  let next: Chat = { ...chat, head: Math.max(chat.head, news.head) };
  if (news.head >= Math.max(chat.tip, chat.detailsAt)) {
    const { id: _i, head, last: _l, draft: _d, settings: _s, read: _r, ...details } = news;
    next = { ...next, ...details, detailsAt: head };
  }
  next = withLast(next, news.last);
  if (newer(news.read, chat.read)) return rebased(next, news.read, shelf, me);
  // An answer that is older than what is held says nothing. A newer one that has read less waits for MarkRead.
  return news.head < chat.tip ? next : { ...next, readStale: false };
}

/** How far the log is known to go. */
export function noteHead(chat: Chat, head: number): Chat {
  return head > chat.head ? { ...chat, head } : chat;
}

/** Whether an event at or before the head is missing. */
export const hasHole = (chat: Chat) => chat.tip < chat.head && !chat.left;

/** Whether the hole is given up rather than filled: it is too large, or nothing is held before it. */
export function shouldJump(chat: Chat): boolean {
  return hasHole(chat) && (chat.parts.length === 0 || chat.head - chat.tip > FILL_EVENTS_MAX);
}

/**
 * Gives a hole up: what was held stays as old parts, and a new live part begins behind `head`. What the chat
 * is at `head` must have been told, because the events that say it are not read.
 */
export function jump(chat: Chat, head: number, shelf: Shelf, me: UserId): Chat {
  if (head <= chat.tip) return chat;
  const stale = chat.read.asOf < head;
  return behind({ ...chat, tip: head, readStale: stale, parts: joined(chat.parts, head) }, shelf, me);
}

/** The parts that must be brought up to date before they are shown. */
export const stale = (chat: Chat) => chat.parts.filter((part) => part.trueAt < chat.tip);

/** The part that ends at the tip; undefined when nothing of it is held. */
export function livePart(chat: Chat): Part | undefined {
  const part = around(chat.parts, chat.tip);
  return part && part.trueAt >= chat.tip ? part : undefined;
}

/** The chat with at most `keep` events, the newest ones; and what goes. */
export function trimmed(chat: Chat, keep: number): { chat: Chat; gone: Array<{ from: number; to: number }> } {
  let over = size(chat.parts) - keep;
  const gone: Array<{ from: number; to: number }> = [];
  const parts: Part[] = [];
  for (const part of chat.parts) {
    const cut = Math.max(0, Math.min(over, part.to - part.from + 1));
    over -= cut;
    if (cut > 0) gone.push({ from: part.from, to: part.from + cut - 1 });
    if (part.from + cut <= part.to) parts.push({ ...part, from: part.from + cut });
  }
  return { chat: gone.length > 0 ? { ...chat, parts } : chat, gone };
}

/** The seqs that must be on the shelf before these events can be taken. */
export function needed(chat: Chat | undefined, news: readonly Live[]): number[] {
  const all = [...(chat?.aside ?? []), ...news];
  return [...new Set(all.flatMap(({ event }) => targetsOf(event)))];
}

function takeIn(chat: Chat, event: Event, shelf: Shelf, me: UserId): Chat {
  const tip = event.seq;
  let next = counted(chat, event, shelf, me);
  const now = unseen(event, chat);
  shelf.put(now);
  let last = chat.last && fold(event, chat.last, me);
  for (const seq of targetsOf(event)) {
    // A message of an old part is left as it was: it is read anew, with this change in it.
    const part = around(chat.parts, seq);
    const target = part && part.trueAt >= chat.tip ? shelf.get(seq) : undefined;
    if (target) shelf.put(fold(event, target, me));
  }
  if (event.message) last = now;
  next = withDetails(next, event, me);
  const live = livePart(chat);
  // What is true at the tip stays so: the event changed what it changes.
  const parts = chat.parts.map((part) => (part.trueAt >= chat.tip ? { ...part, trueAt: Math.max(part.trueAt, tip) } : part));
  return {
    ...next,
    tip,
    parts: live
      ? // What happened after the tip may be missing in the event, though the rest of the part has it.
        parts.map((part) => (part.to === chat.tip && part.from === live.from ? { ...part, to: tip, trueAt: tip } : part))
      : joined([...parts, { from: chat.tip + 1, to: tip, trueAt: tip }], tip),
    ...(last && { last, activeAtMs: event.message ? Math.max(next.activeAtMs, event.atMs) : next.activeAtMs }),
  };
}

/** Takes in what waits directly behind the tip. */
function behind(chat: Chat, shelf: Shelf, me: UserId): Chat {
  let next = chat;
  for (;;) {
    const waiting = next.aside.find((live) => live.event.seq > next.tip && live.prev <= next.tip);
    if (!waiting) break;
    next = takeIn(next, waiting.event, shelf, me);
  }
  const aside = next.aside.filter((live) => live.event.seq > next.tip);
  return aside.length === next.aside.length ? next : { ...next, aside };
}

function setAside(aside: readonly Live[], live: Live): Live[] {
  if (aside.some(({ event }) => event.seq === live.event.seq)) return [...aside];
  return [...aside, live].sort((a, b) => a.event.seq - b.event.seq).slice(0, ASIDE_EVENTS_MAX);
}

/** What is on the shelf stays when it is newer, and stays hidden. */
function keepNewest(event: Event, chat: Chat, shelf: Shelf): void {
  const held = shelf.get(event.seq);
  if (held?.message && event.message && held.message.changedSeq > event.message.changedSeq) return;
  shelf.put(held?.message?.hidden ? hidden(event) : unseen(event, chat));
}

/** The event as it is to the person, who may have deleted it for themselves on another device. */
const unseen = (event: Event, chat: Chat) => (chat.toHide.includes(event.seq) ? hidden(event) : event);

function hidden(event: Event): Event {
  const { message } = event;
  // Deleted for everybody is more than deleted for one.
  return message && !message.deletion ? { ...event, message: { ...message, hidden: true, text: '' } } : event;
}

/** The person deletes messages for themselves. */
export function hide(chat: Chat, targets: readonly number[], shelf: Shelf): Chat {
  for (const seq of targets) {
    const held = around(chat.parts, seq) && shelf.get(seq);
    if (held) shelf.put(hidden(held));
  }
  const last = chat.last && targets.includes(chat.last.seq) ? hidden(chat.last) : chat.last;
  const toHide = [...targets.filter((seq) => !around(chat.parts, seq)), ...chat.toHide].slice(0, TO_HIDE_MAX);
  return { ...chat, toHide, ...(last && { last }) };
}

function withLast(chat: Chat, last: Event | undefined): Chat {
  if (!last) return chat;
  const held = chat.last;
  const older = held && (held.seq > last.seq || (held.seq === last.seq && (held.message?.changedSeq ?? 0) > (last.message?.changedSeq ?? 0)));
  return older ? chat : { ...chat, last, activeAtMs: Math.max(chat.activeAtMs, last.atMs) };
}

function withDetails(chat: Chat, event: Event, me: UserId): Chat {
  const { act, seq } = event;
  if (!act || seq <= chat.detailsAt) return chat;
  switch (act.kind) {
    case 'deleted':
      return { ...chat, pins: chat.pins.filter((pin) => !act.targets.includes(pin)) };
    case 'pinned':
      return { ...chat, pins: [act.target, ...chat.pins.filter((pin) => pin !== act.target)] };
    case 'unpinned':
      return { ...chat, pins: chat.pins.filter((pin) => pin !== act.target) };
    case 'changed': {
      const { kind: _, ...set } = act;
      return { ...chat, ...set };
    }
    case 'added':
    case 'joined':
    case 'left':
    case 'removed':
    case 'banned':
      return { ...chat, memberCount: act.memberCount, membersSeq: seq };
    case 'role':
      return { ...chat, membersSeq: seq, role: roleAfter(chat.role, act, event.actorId, me) };
    default:
      return chat;
  }
}

/** Who gives ownership away is an admin from then on. */
function roleAfter(role: Role, act: { userId: UserId; role: Role }, actor: UserId, me: UserId): Role {
  if (act.userId === me) return act.role;
  return act.role === Role.OWNER && actor === me ? Role.ADMIN : role;
}
