// Messages that are shown apart from the parts of a log: quoted ones, pinned ones, those of a thread. They
// come with an answer, and are kept true by what happens after it.

import type { UserId } from '../api/ids';
import { fold, targetsOf } from './fold';
import type { Event } from './model';

interface Held {
  event: Event;
  /** Every change up to here is in it. */
  trueAt: number;
}

export class Loose {
  #me: UserId;
  #held = new Map<number, Held>();

  constructor(me: UserId) {
    this.#me = me;
  }

  get(seq: number): Event | undefined {
    return this.#held.get(seq)?.event;
  }

  /** In the order of the log. */
  all(): Event[] {
    return [...this.#held.values()].map((held) => held.event).sort((a, b) => a.seq - b.seq);
  }

  /** Messages out of an answer that is true at `head`. */
  put(events: readonly Event[], head: number): void {
    for (const event of events) {
      const held = this.#held.get(event.seq);
      if (!held || held.trueAt <= head) this.#held.set(event.seq, { event, trueAt: head });
    }
  }

  /** From where on events are needed to stay true; undefined when nothing is held. */
  get since(): number | undefined {
    const all = [...this.#held.values()].map((held) => held.trueAt);
    return all.length > 0 ? Math.min(...all) : undefined;
  }

  /** The events after `since`, without a hole, up to `tip`. New replies of `thread` are taken in. */
  follow(events: readonly Event[], tip: number, thread = 0): void {
    for (const event of events) {
      for (const target of targetsOf(event)) {
        const held = this.#held.get(target);
        if (held && event.seq > held.trueAt) held.event = fold(event, held.event, this.#me);
      }
      const isReply = thread > 0 && event.message?.threadSeq === thread;
      if (isReply && !this.#held.has(event.seq)) this.#held.set(event.seq, { event, trueAt: tip });
    }
    for (const held of this.#held.values()) held.trueAt = Math.max(held.trueAt, tip);
  }

  /** Messages that the person deleted for themselves. */
  hide(seqs: readonly number[]): void {
    for (const seq of seqs) this.#held.delete(seq);
  }

  clear(): void {
    this.#held.clear();
  }
}
