// What a conversation shows: a run of events without a hole, then what is on its way. Knows no screen, no
// store and no socket: it is told events and pages, and says which page it wants next.

import type { UserId } from '../api/ids';
import type { Event, Unsent } from './model';
import { add, around, newest, type Range } from './ranges';

/** A part of the log to be read: after a seq, or before one. */
export type PageRequest =
  | { kind: 'after'; seq: number; limit: number }
  | { kind: 'before'; seq: number; limit: number };

/** The seqs that a page speaks for: pages have no holes, so up to where they were asked from. */
export function covered(request: PageRequest, first: Event, last: Event, head: number): Range {
  if (request.kind === 'after') return [request.seq + 1, last.seq];
  return [first.seq, Math.max(last.seq, Math.min(request.seq - 1, head))];
}

/** One line of the conversation. */
export interface Item {
  /** Stays the same while a message goes from unsent to stored. */
  key: string;
  seq?: number;
  atMs: number;
  actorId: UserId;
  text: string;
  own: boolean;
  state: 'sending' | 'failed' | 'stored';
  clientMessageId?: string;
  reason?: number;
}

/** How many events a page holds. */
export const PAGE_EVENTS = 60;
/** A hole up to this size is filled; past it the view starts anew at the newest page. */
export const FILL_EVENTS_MAX = 500;

export class Timeline {
  #own: { userId: UserId; deviceId: string };
  #events = new Map<number, Event>();
  #ranges: Range[] = [];
  #head = 0;
  /** A seq in the run that is shown; 0 before there is one. */
  #anchor = 0;
  /** Nothing is before this seq, said by an empty page. */
  #floor = 1;
  #unsent: readonly Unsent[] = [];

  constructor(own: { userId: UserId; deviceId: string }) {
    this.#own = own;
  }

  /** The newest seq that is known to exist. */
  get head(): number {
    return this.#head;
  }

  /** The run that is shown. */
  get run(): Range | undefined {
    return around(this.#ranges, this.#anchor);
  }

  /** The first event is shown, or there is none. */
  get atStart(): boolean {
    const run = this.run;
    return run ? run[0] <= this.#floor : this.#head === 0;
  }

  /** An event as it happened; `prev` is the seq before it. A repeat changes nothing. */
  live(prev: number, event: Event): void {
    this.#events.set(event.seq, event);
    this.#ranges = add(this.#ranges, Math.min(prev + 1, event.seq), event.seq);
    this.#head = Math.max(this.#head, event.seq);
    // The first thing ever said needs no page.
    if (this.#anchor === 0 && prev === 0) this.#anchor = event.seq;
  }

  /** The answer to a request of `wants` or `older`. */
  page(request: PageRequest, events: readonly Event[], head: number): void {
    const newestAsked = request.kind === 'before' && request.seq > this.#head;
    for (const event of events) this.#events.set(event.seq, event);
    const first = events[0];
    const last = events.at(-1);
    if (first && last) {
      const [from, to] = covered(request, first, last, head);
      this.#ranges = add(this.#ranges, from, to);
      if (newestAsked || this.#anchor === 0) this.#anchor = last.seq;
      this.#head = newestAsked ? Math.max(head, newest(this.#ranges)) : Math.max(this.#head, head);
      return;
    }
    // An empty page means that there is nothing: what was told of more was of another history.
    if (request.kind === 'after' || newestAsked) this.#head = Math.max(head, newest(this.#ranges));
    else this.#floor = Math.max(this.#floor, request.seq);
  }

  /** The log is known to reach this far. */
  noteHead(seq: number): void {
    this.#head = Math.max(this.#head, seq);
  }

  /** What the outbox holds for this chat, in its order. */
  setUnsent(unsent: readonly Unsent[]): void {
    this.#unsent = unsent;
  }

  /** What to read so that the newest event is shown; null when it is. */
  wants(): PageRequest | null {
    const run = this.run;
    if (this.#head === 0 || (run && run[1] >= this.#head)) return null;
    if (run && this.#head - run[1] <= FILL_EVENTS_MAX) return { kind: 'after', seq: run[1], limit: FILL_EVENTS_MAX };
    return { kind: 'before', seq: this.#head + 1, limit: PAGE_EVENTS };
  }

  /** What to read to show more of the past; null at the beginning. */
  older(): PageRequest | null {
    const run = this.run;
    return !run || this.atStart ? null : { kind: 'before', seq: run[0], limit: PAGE_EVENTS };
  }

  /** The lines, oldest first: the run, own messages that are stored beyond a hole, unsent messages. */
  items(): Item[] {
    const items: Item[] = [];
    const shown = new Set<string>();
    const [from, to] = this.run ?? [1, 0];
    for (let seq = from; seq <= to; seq += 1) this.#push(items, shown, this.#events.get(seq));
    for (const [first, last] of this.#ranges) {
      for (let seq = Math.max(first, to + 1); seq <= last; seq += 1) {
        const event = this.#events.get(seq);
        if (event && this.#isFromHere(event)) this.#push(items, shown, event);
      }
    }
    for (const { clientMessageId, text, atMs, state, reason } of this.#unsent) {
      if (shown.has(clientMessageId)) continue;
      items.push({
        key: clientMessageId,
        atMs,
        actorId: this.#own.userId,
        text,
        own: true,
        state: state === 'failed' ? 'failed' : 'sending',
        clientMessageId,
        ...(reason !== undefined && { reason }),
      });
    }
    return items;
  }

  #push(items: Item[], shown: Set<string>, event: Event | undefined): void {
    // Events of kinds that this client does not know are held and not shown.
    if (!event?.message) return;
    const { text, clientMessageId } = event.message;
    const fromHere = this.#isFromHere(event);
    if (fromHere) shown.add(clientMessageId);
    items.push({
      key: fromHere ? clientMessageId : `s${event.seq}`,
      seq: event.seq,
      atMs: event.atMs,
      actorId: event.actorId,
      text,
      own: event.actorId === this.#own.userId,
      state: 'stored',
    });
  }

  /** Sent by this device, so that an unsent message may be the same one. */
  #isFromHere(event: Event): boolean {
    return event.actorId === this.#own.userId && event.message?.deviceId === this.#own.deviceId;
  }
}
