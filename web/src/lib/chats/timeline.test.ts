import { describe, expect, it } from 'vitest';
import type { ChatId, MessageId, UserId } from '../api/ids';
import type { Event, Unsent } from './model';
import { Timeline, type PageRequest } from './timeline';

const me = '1' as UserId;
const ana = '2' as UserId;
const chat = '9' as ChatId;
const own = { userId: me, deviceId: 'here' };

function event(seq: number, from: UserId = ana, clientMessageId = `other-${seq}`, deviceId = 'there'): Event {
  const message = { messageId: `${1000 + seq}` as MessageId, text: `text ${seq}`, clientMessageId, deviceId };
  return { chatId: chat, seq, atMs: seq * 1000, actorId: from, message };
}

function log(length: number): Event[] {
  return Array.from({ length }, (_, i) => event(i + 1));
}

/** What the server would answer. */
function answer(events: readonly Event[], request: PageRequest): Event[] {
  if (request.kind === 'after') return events.filter((e) => e.seq > request.seq).slice(0, request.limit);
  return events.filter((e) => e.seq < request.seq).slice(-request.limit);
}

/** Reads until nothing is wanted. */
function settle(timeline: Timeline, events: readonly Event[]): void {
  for (let turns = 0; ; turns += 1) {
    const request = timeline.wants();
    if (!request) return;
    expect(turns).toBeLessThan(1000);
    timeline.page(request, answer(events, request), events.length);
  }
}

const seqs = (timeline: Timeline) => timeline.items().flatMap((i) => (i.seq === undefined ? [] : [i.seq]));
const upTo = (n: number, from = 1) => Array.from({ length: n - from + 1 }, (_, i) => i + from);

describe('timeline', () => {
  it('shows the newest page first and the whole log after scrolling up', () => {
    const events = log(150);
    const timeline = new Timeline(own);
    timeline.noteHead(150);
    settle(timeline, events);
    expect(seqs(timeline)).toEqual(upTo(150, 91));
    for (let request = timeline.older(); request; request = timeline.older()) {
      timeline.page(request, answer(events, request), 150);
    }
    expect(seqs(timeline)).toEqual(upTo(150));
    expect(timeline.atStart).toBe(true);
  });

  it('shows the first message of a new chat without asking', () => {
    const timeline = new Timeline(own);
    timeline.live(0, event(1));
    expect(timeline.wants()).toBeNull();
    expect(seqs(timeline)).toEqual([1]);
  });

  it('keeps an event beyond a hole back until the hole is filled', () => {
    const events = log(6);
    const timeline = new Timeline(own);
    for (const e of events.slice(0, 3)) timeline.live(e.seq - 1, e);
    timeline.live(5, event(6));
    expect(seqs(timeline)).toEqual([1, 2, 3]);
    expect(timeline.wants()).toEqual({ kind: 'after', seq: 3, limit: 500 });
    settle(timeline, events);
    expect(seqs(timeline)).toEqual(upTo(6));
  });

  it('takes prev at its word when numbers are left out for this client', () => {
    const timeline = new Timeline(own);
    timeline.live(0, event(1));
    timeline.live(1, event(4));
    expect(timeline.wants()).toBeNull();
    expect(seqs(timeline)).toEqual([1, 4]);
  });

  it('starts anew at the end when the hole is too large to fill', () => {
    const events = log(2000);
    const timeline = new Timeline(own);
    for (const e of events.slice(0, 10)) timeline.live(e.seq - 1, e);
    timeline.noteHead(2000);
    settle(timeline, events);
    expect(seqs(timeline)).toEqual(upTo(2000, 1941));
  });

  it('shows an event once however often it comes', () => {
    const timeline = new Timeline(own);
    for (const seq of [1, 2, 1, 2, 2, 3]) timeline.live(seq - 1, event(seq));
    expect(seqs(timeline)).toEqual([1, 2, 3]);
  });

  it('notices a lost tail by the head of a heartbeat', () => {
    const events = log(3);
    const timeline = new Timeline(own);
    timeline.live(0, event(1));
    timeline.noteHead(3);
    settle(timeline, events);
    expect(seqs(timeline)).toEqual([1, 2, 3]);
  });

  it('replaces an unsent message by its event and keeps its key', () => {
    const timeline = new Timeline(own);
    timeline.live(0, event(1));
    timeline.setUnsent([unsent('mine-0001', 1)]);
    expect(timeline.items().map((i) => [i.key, i.state])).toEqual([
      ['s1', 'stored'],
      ['mine-0001', 'sending'],
    ]);
    timeline.live(1, event(2, me, 'mine-0001', 'here'));
    expect(timeline.items().map((i) => [i.key, i.state])).toEqual([
      ['s1', 'stored'],
      ['mine-0001', 'stored'],
    ]);
  });

  it('does not take the message of another device for an unsent one', () => {
    const timeline = new Timeline(own);
    timeline.setUnsent([unsent('mine-0001', 1)]);
    timeline.live(0, event(1, me, 'mine-0001', 'there'));
    expect(timeline.items().map((i) => i.state)).toEqual(['stored', 'sending']);
  });

  it('shows an acknowledged message although what is before it is still on the way', () => {
    const timeline = new Timeline(own);
    timeline.live(0, event(1));
    timeline.live(2, event(3, me, 'mine-0001', 'here'));
    expect(seqs(timeline)).toEqual([1, 3]);
    timeline.live(1, event(2));
    expect(seqs(timeline)).toEqual([1, 2, 3]);
  });

  it('does not ask forever for what another history promised', () => {
    const timeline = new Timeline(own);
    timeline.noteHead(50);
    settle(timeline, log(3));
    expect(seqs(timeline)).toEqual([1, 2, 3]);
  });

  // Every interleaving of drops, repeats, reorderings, late pages and acknowledgements ends complete.
  for (let seed = 1; seed <= 200; seed += 1) {
    it(`is complete, in order and without repeats after chaos (seed ${seed})`, () => {
      const random = mulberry(seed);
      const below = (n: number) => Math.floor(random() * n);
      const total = 5 + below(seed % 10 === 0 ? 1500 : 120);
      const events = log(total).map((e) =>
        random() < 0.3 ? event(e.seq, me, `mine-${e.seq}`, random() < 0.7 ? 'here' : 'there') : e,
      );
      const timeline = new Timeline(own);
      const late: Array<() => void> = [];
      let written = 0;
      const mine = () => events.filter((e) => e.message?.deviceId === 'here');

      for (let step = 0; step < 400; step += 1) {
        const dice = random();
        if (dice < 0.5 && written < total) {
          const burst = 1 + below(total > 500 ? 40 : 3);
          for (let i = 0; i < burst && written < total; i += 1) {
            const e = events[written++] as Event;
            const deliver = () => timeline.live(e.seq - 1, e);
            const fate = random();
            if (fate < 0.5) deliver();
            else if (fate < 0.75) late.push(deliver);
            else if (fate < 0.85) [deliver, deliver].forEach((d) => d());
          }
        } else if (dice < 0.6) {
          timeline.noteHead(below(written + 1));
        } else if (dice < 0.8) {
          const request = random() < 0.6 ? timeline.wants() : timeline.older();
          if (request) {
            const page = answer(events.slice(0, written), request);
            const head = written;
            late.push(() => timeline.page(request, page, head));
          }
        } else if (dice < 0.9) {
          const waiting = mine().filter((e) => e.seq > written - 5);
          timeline.setUnsent(waiting.map((e) => unsent(e.message?.clientMessageId ?? '', e.seq)));
        } else if (late.length > 0) {
          late.splice(below(late.length), 1)[0]?.();
        }
        expectSound(timeline, new Set(mine().map((e) => e.seq)));
      }

      for (const run of late) run();
      written = total;
      timeline.setUnsent([]);
      timeline.noteHead(total);
      settle(timeline, events);
      for (let request = timeline.older(); request; request = timeline.older()) {
        timeline.page(request, answer(events, request), total);
      }
      expect(seqs(timeline)).toEqual(upTo(total));
      expect(timeline.items().every((i) => i.state === 'stored')).toBe(true);
    });
  }
});

/** Ascending, no key twice, and no hole but before what this device itself sent. */
function expectSound(timeline: Timeline, mine: Set<number>): void {
  const items = timeline.items();
  const numbers = items.flatMap((i) => (i.seq === undefined ? [] : [i.seq]));
  const wrong = numbers.find((seq, i) => {
    const before = numbers[i - 1] ?? seq - 1;
    return seq <= before || (seq !== before + 1 && !mine.has(seq));
  });
  // One claim for all of them: a claim each would take most of the test's time.
  expect([wrong, new Set(items.map((i) => i.key)).size]).toEqual([undefined, items.length]);
}

function unsent(clientMessageId: string, order: number): Unsent {
  return { order, clientMessageId, chatId: chat, text: 'hello', atMs: 1, state: 'waiting' };
}

/** A small seeded generator. */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
