import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, it } from 'vitest';
import { ChatSchema, EventSchema } from '../../gen/tertulia/chats/v1/model_pb';
import { userId, type UserId } from '../api/ids';
import { FakeServer } from './fake';
import { targetsOf } from './fold';
import { changes, fresh, hasHole, hide, jump, livePart, noteHead, page, shouldJump, stale, take, told, trimmed, type Chat, type PageRequest } from './log';
import { ChatKind, DeletionReason, Role, toChat, toEvent, toRead, type Event } from './model';
import { around, type Part } from './parts';
import { mulberry, seeds } from './random';
import { merged, type Receipts } from './receipts';
import { MENTIONS_COUNTED_MAX, newer, rebased, seenUpTo, type Shelf } from './unread';

const ME = 1n;
const ANA = 2n;
const BEA = 3n;
const CHAT = 10n;
const me = userId(ME);

/** A client without a store: the rules, and a shelf that holds everything. */
class Client {
  chat: Chat;
  events = new Map<number, Event>();
  receipts: Receipts = new Map();
  shelf: Shelf = { get: (seq) => this.events.get(seq), put: (event) => void this.events.set(event.seq, event) };

  constructor(readonly server: FakeServer) {
    this.chat = fresh(this.tell());
  }

  tell() {
    return toChat(create(ChatSchema, this.server.told(CHAT, ME)));
  }

  shown(seq: number): Event {
    return toEvent(create(EventSchema, this.server.shown(CHAT, seq, ME)));
  }

  /** A live frame, as it was when it happened. */
  hear(seq: number, prev = seq - 1): void {
    const event = toEvent(create(EventSchema, this.server.live(CHAT, seq)));
    this.chat = take(this.chat, { prev, event }, this.shelf, me);
    if (event.message) this.receipts = merged(this.receipts, new Map([[event.actorId, { delivered: seq, seen: seq }]]));
  }

  /** The answer to a request, as the server would give it now; taken when it is called. */
  ask(request: PageRequest): () => void {
    const { head } = this.server.chat(CHAT);
    const [from, to] =
      request.kind === 'after'
        ? [request.seq + 1, Math.min(head, request.seq + request.limit)]
        : [Math.max(1, request.seq - request.limit), Math.min(head, request.seq - 1)];
    const events: Event[] = [];
    for (let seq = from; seq <= to; seq += 1) events.push(this.shown(seq));
    return () => (this.chat = page(this.chat, request, events, head, this.shelf, me));
  }

  askChanges(part: Part, limit: number, after = part.trueAt): () => number | undefined {
    const { log, head } = this.server.chat(CHAT);
    const changed = (seq: number) => log[seq - 1]?.said?.changedSeq ?? 0;
    const moved = log
      .filter((e) => e.said && e.seq >= part.from && e.seq <= part.to && changed(e.seq) > after)
      .sort((a, b) => changed(a.seq) - changed(b.seq));
    // Messages that one event has changed are told together.
    const end = changed(moved[limit - 1]?.seq ?? 0);
    const some = moved.filter((e, i) => i < limit || changed(e.seq) === end).map((e) => this.shown(e.seq));
    const more = some.length < moved.length;
    const through = more ? (some.at(-1)?.message?.changedSeq ?? 0) : head;
    return () => {
      this.chat = changes(this.chat, part, { events: some, through, more }, this.shelf, me);
      return more ? through : undefined;
    };
  }

  /** Asks for all changes of a part, page by page. */
  refresh(part: Part): void {
    for (let after: number | undefined = part.trueAt; after !== undefined; ) after = this.askChanges(part, 7, after)();
  }

  askChat(): () => void {
    const news = this.tell();
    return () => (this.chat = told(this.chat, news, this.shelf, me));
  }

  fill(): void {
    while (hasHole(this.chat)) this.ask({ kind: 'after', seq: this.chat.tip, limit: 100 })();
  }

  /** As if the person looked at everything, with nothing more happening. */
  settle(): void {
    this.chat = noteHead(this.chat, this.server.chat(CHAT).head);
    this.fill();
    for (let turns = 0; turns < 1000; turns += 1) {
      const old = stale(this.chat)[0];
      const first = this.chat.parts.at(-1);
      if (old) this.refresh(old);
      else if (!first) this.ask({ kind: 'before', seq: this.chat.tip + 1, limit: 50 })();
      else if (first.to < this.chat.tip) this.ask({ kind: 'after', seq: first.to, limit: 50 })();
      else if (first.from > 1) this.ask({ kind: 'before', seq: first.from, limit: 50 })();
      else break;
    }
    if (this.chat.readStale) this.askChat()();
  }
}

let server: FakeServer;

beforeEach(() => {
  server = new FakeServer();
  server.open(CHAT, [ME, ANA, BEA], ChatKind.GROUP, 'Writers');
});

const message = (client: Client, seq: number) => client.events.get(seq)?.message;

describe('taking an event in', () => {
  it('drops what is held', () => {
    const client = new Client(server);
    const seq = server.say(CHAT, ANA, 'a');
    client.hear(seq);
    const before = client.chat;
    client.hear(seq);
    expect(client.chat).toBe(before);
  });

  it('moves the tip when what is before it is held, and keeps back what is beyond a hole', () => {
    const client = new Client(server);
    const [a, b, c] = ['a', 'b', 'c'].map((text) => server.say(CHAT, ANA, text)) as [number, number, number];
    client.hear(c);
    client.hear(a);
    expect([client.chat.tip, client.chat.head]).toEqual([a, c]);
    expect(client.chat.aside).toHaveLength(1);
    client.hear(b);
    expect(client.chat.tip).toBe(c);
    expect(client.chat.aside).toEqual([]);
  });

  it('takes prev at its word when numbers are left out for this client', () => {
    const client = new Client(server);
    for (const text of ['a', 'b', 'c']) server.say(CHAT, ANA, text);
    client.hear(4, 1);
    expect(client.chat.tip).toBe(4);
    expect(hasHole(client.chat)).toBe(false);
  });

  it('learns of a lost tail by a head, and fills it', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a');
    client.chat = noteHead(client.chat, 2);
    expect(hasHole(client.chat)).toBe(true);
    client.fill();
    expect(message(client, 2)?.text).toBe('a');
    expect(hasHole(client.chat)).toBe(false);
  });
});

describe('what an event changes', () => {
  function heard(...acts: Array<() => number>): Client {
    const client = new Client(server);
    const first = server.chat(CHAT).head + 1;
    acts.forEach((act) => act());
    for (let seq = first; seq <= server.chat(CHAT).head; seq += 1) client.hear(seq);
    return client;
  }

  it('counts a reply to its thread', () => {
    const client = heard(() => server.say(CHAT, ANA, 'root'), () => server.say(CHAT, BEA, 'reply', { thread: 2 }));
    expect(message(client, 2)).toMatchObject({ replyCount: 1, lastReplySeq: 3, changedSeq: 3 });
  });

  it('edits text and mentions', () => {
    const client = heard(
      () => server.say(CHAT, ANA, 'one', { mentions: { everyone: true } }),
      () => server.edit(CHAT, ANA, 2, 'two'),
    );
    expect(message(client, 2)).toMatchObject({ text: 'two', changedSeq: 3 });
    expect(message(client, 2)?.editedAtMs).toBe(client.events.get(3)?.atMs);
    expect(message(client, 2)?.mentions).toBeUndefined();
  });

  it('empties a deleted message and takes its pin from the chat', () => {
    const client = heard(
      () => server.say(CHAT, ANA, 'a', { mentions: { userIds: [ME] } }),
      () => server.react(CHAT, BEA, 2, '👍'),
      () => server.pin(CHAT, ANA, 2),
      () => server.remove(CHAT, BEA, [2], DeletionReason.MODERATOR),
    );
    expect(message(client, 2)).toMatchObject({ text: '', deletion: { reason: DeletionReason.MODERATOR, by: '3' }, reactions: [], pinned: false, changedSeq: 5 });
    expect(message(client, 2)?.mentions).toBeUndefined();
    expect(client.chat.pins).toEqual([]);
  });

  it('counts reactions in the order of their first use, and knows the own ones', () => {
    const client = heard(
      () => server.say(CHAT, ANA, 'a'),
      () => server.react(CHAT, BEA, 2, '👍'),
      () => server.react(CHAT, ME, 2, '🎉'),
      () => server.react(CHAT, ME, 2, '👍'),
      () => server.react(CHAT, ME, 2, '🎉', false),
    );
    expect(message(client, 2)?.reactions).toEqual([{ emoji: '👍', count: 2, mine: true }]);
  });

  it('puts the newest pin first', () => {
    const client = heard(
      () => server.say(CHAT, ANA, 'a'),
      () => server.say(CHAT, ANA, 'b'),
      () => server.pin(CHAT, ANA, 2),
      () => server.pin(CHAT, ANA, 3),
    );
    expect(client.chat.pins).toEqual([3, 2]);
    expect(message(client, 2)?.pinned).toBe(true);
  });

  it('changes the fields of the chat that are set', () => {
    const client = heard(() => server.change(CHAT, ANA, { title: 'Readers' }), () => server.change(CHAT, ANA, { topic: 'books', ttlS: 60 }));
    expect(client.chat).toMatchObject({ title: 'Readers', topic: 'books', ttlS: 60, avatar: '' });
  });

  it('knows that a list of members is out of date', () => {
    const client = heard(() => server.add(CHAT, ME, [4n, 5n]), () => server.part(CHAT, BEA, BEA));
    expect(client.chat).toMatchObject({ memberCount: 4, membersSeq: 3 });
    expect(client.chat.membersSeq).toBe(server.chat(CHAT).membersSeq);
  });

  it('knows the own role when it changes, also when ownership is given away', () => {
    const client = heard(() => server.setRole(CHAT, ME, ANA, Role.OWNER));
    expect(client.chat.role).toBe(Role.ADMIN);
    server.setRole(CHAT, ANA, ME, Role.MEMBER);
    client.hear(3);
    expect(client.chat.role).toBe(Role.MEMBER);
  });

  it('counts an event that it does not know and shows nothing of it', () => {
    const client = new Client(server);
    server.append(CHAT, ANA, { case: undefined });
    client.hear(2);
    expect(client.chat.tip).toBe(2);
    expect(client.events.get(2)).toMatchObject({ seq: 2 });
    expect(targetsOf(client.events.get(2) as Event)).toEqual([]);
  });

  it('does not change twice what came with an answer', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a');
    server.react(CHAT, BEA, 2, '👍');
    const answer = client.ask({ kind: 'after', seq: 1, limit: 1 });
    answer();
    client.hear(3);
    expect(message(client, 2)?.reactions).toEqual([{ emoji: '👍', count: 1, mine: false }]);
  });

  it('shows the newest message of the chat as it is now', () => {
    const client = heard(() => server.say(CHAT, ANA, 'a'), () => server.edit(CHAT, ANA, 2, 'b'));
    expect(client.chat.last?.message?.text).toBe('b');
  });

  it('does not let an event older than the details change them', () => {
    const client = new Client(server);
    server.change(CHAT, ANA, { title: 'B' });
    server.change(CHAT, ANA, { title: 'C' });
    client.askChat()();
    client.hear(2);
    expect(client.chat.title).toBe('C');
  });
});

describe('what is hidden', () => {
  it('is remembered of a chat that is not known yet', () => {
    const client = new Client(server);
    const known = client.tell();
    const seq = server.say(CHAT, ANA, 'gone');
    client.chat = { ...client.chat, parts: [], head: 0, tip: 0, unknown: 1 };
    client.hear(seq);
    client.chat = hide(client.chat, [seq], client.shelf);
    // Told as it was before the message.
    client.chat = told(client.chat, known, client.shelf, me);
    expect(client.chat.tip).toBe(seq);
    expect(message(client, seq)).toMatchObject({ hidden: true, text: '' });
  });

  it('is cleared by a deletion for everybody, and by nothing else', () => {
    const client = new Client(server);
    const [a, b] = [server.say(CHAT, ANA, 'a'), server.say(CHAT, ANA, 'b')];
    [a, b].forEach((seq) => client.hear(seq));
    client.chat = hide(client.chat, [a, b], client.shelf);
    client.hear(server.edit(CHAT, ANA, a, 'edited'));
    client.hear(server.remove(CHAT, ANA, [b]));
    client.chat = hide(client.chat, [b], client.shelf);
    expect(message(client, a)).toMatchObject({ hidden: true, text: '' });
    expect(message(client, b)).toMatchObject({ hidden: false, deletion: { by: '2' } });
  });
});

describe('unread', () => {
  it('counts whom an unread message mentions after its edits', () => {
    const client = new Client(server);
    const seq = server.say(CHAT, ANA, 'to nobody');
    client.hear(seq);
    client.hear(server.edit(CHAT, ANA, seq, 'to me', { userIds: [ME] }));
    expect([client.chat.unread, client.chat.mentions, client.chat.readStale]).toEqual([1, 1, false]);
    client.hear(server.edit(CHAT, ANA, seq, 'to Bea', { userIds: [BEA] }));
    expect([client.chat.unread, client.chat.mentions, client.chat.readStale]).toEqual([1, 0, false]);
  });

  it('asks when an edit is of a counted message that is not held', () => {
    const seq = server.say(CHAT, ANA, 'to me', { mentions: { userIds: [ME] } });
    const client = new Client(server);
    client.hear(server.edit(CHAT, ANA, seq, 'to nobody'));
    expect(client.chat.readStale).toBe(true);
    client.askChat()();
    expect([client.chat.unread, client.chat.mentions, client.chat.readStale]).toEqual([1, 0, false]);
  });

  it('asks when the person has another role, because other mentions count', () => {
    const client = new Client(server);
    client.hear(server.say(CHAT, ANA, 'to admins', { mentions: { role: Role.ADMIN } }));
    client.hear(server.setRole(CHAT, ANA, ME, Role.MEMBER));
    expect([client.chat.mentions, client.chat.readStale]).toEqual([1, true]);
    client.askChat()();
    expect([client.chat.mentions, client.chat.readStale]).toEqual([0, false]);
  });

  it('counts up to the bound of the server, and asks rather than count down from it', () => {
    const client = new Client(server);
    const base = { seen: 0, unread: 1500, mentions: MENTIONS_COUNTED_MAX, asOf: client.chat.tip };
    client.chat = { ...client.chat, read: base, unread: 1500, mentions: MENTIONS_COUNTED_MAX };
    const seq = server.say(CHAT, ANA, 'to me', { mentions: { userIds: [ME] } });
    client.hear(seq);
    expect([client.chat.unread, client.chat.mentions, client.chat.readStale]).toEqual([1501, MENTIONS_COUNTED_MAX, false]);
    client.hear(server.remove(CHAT, ANA, [seq]));
    expect([client.chat.unread, client.chat.mentions, client.chat.readStale]).toEqual([1500, MENTIONS_COUNTED_MAX, true]);
  });

  it('counts what others said, and what mentions the person by id, role or everyone', () => {
    const client = new Client(server);
    const mentions = [undefined, { userIds: [ME] }, { userIds: [BEA] }, { everyone: true }, { role: Role.OWNER }];
    mentions.forEach((m, i) => server.say(CHAT, ANA, `m${i}`, m ? { mentions: m } : {}));
    for (let seq = 2; seq <= 6; seq += 1) client.hear(seq);
    expect([client.chat.unread, client.chat.mentions]).toEqual([5, 3]);
    server.setRole(CHAT, ME, ANA, Role.OWNER);
    server.say(CHAT, ANA, 'owners', { mentions: { role: Role.OWNER } });
    [7, 8].forEach((seq) => client.hear(seq));
    expect([client.chat.unread, client.chat.mentions]).toEqual([6, 3]);
  });

  it('counts nothing before an own message', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a');
    server.say(CHAT, ME, 'b');
    [2, 3].forEach((seq) => client.hear(seq));
    expect(client.chat).toMatchObject({ unread: 0, read: { seen: 3, asOf: 3 } });
  });

  it('does not count what was deleted, whether it was counted or not', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a', { mentions: { userIds: [ME] } });
    server.say(CHAT, ANA, 'b');
    server.remove(CHAT, ANA, [2]);
    [2, 3, 4].forEach((seq) => client.hear(seq));
    expect([client.chat.unread, client.chat.mentions]).toEqual([1, 0]);
  });

  it('does not count what it learnt of only after it was deleted', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a');
    server.say(CHAT, ANA, 'b');
    server.remove(CHAT, ANA, [2]);
    client.chat = noteHead(client.chat, 4);
    client.fill();
    expect(client.chat.unread).toBe(1);
  });

  it('counts hidden messages', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a');
    client.hear(2);
    server.hide(CHAT, ME, [2]);
    expect([client.chat.unread, client.tell().read.unread]).toEqual([1, 1]);
  });

  it('takes the base that was read further, and of two as far the newer one', () => {
    const base = { seen: 5, unread: 3, mentions: 0, asOf: 9 };
    expect(newer({ ...base, seen: 6, asOf: 7 }, base)).toBe(true);
    expect(newer({ ...base, seen: 4, asOf: 20 }, base)).toBe(false);
    expect(newer({ ...base, asOf: 10 }, base)).toBe(true);
    expect(newer({ ...base, asOf: 8 }, base)).toBe(false);
  });

  it('adds to a base what happened after it', () => {
    const client = new Client(server);
    for (let i = 0; i < 5; i += 1) server.say(CHAT, ANA, `m${i}`);
    const read = toRead(create(ChatSchema, { membership: { read: server.read(CHAT, ME, 4) } }).membership?.read);
    server.say(CHAT, BEA, 'later');
    for (let seq = 2; seq <= 7; seq += 1) client.hear(seq);
    client.chat = rebased(client.chat, read, client.shelf, me);
    expect(client.chat.unread).toBe(3);
    expect(client.tell().read.unread).toBe(3);
  });

  it('asks anew when a part of what happened since the base is not held', () => {
    const client = new Client(server);
    for (let i = 0; i < 5; i += 1) server.say(CHAT, ANA, `m${i}`);
    client.chat = jump({ ...client.chat, head: 6 }, 6, client.shelf, me);
    expect(client.chat.readStale).toBe(true);
    client.askChat()();
    expect(client.chat).toMatchObject({ readStale: false, unread: 5 });
  });

  it('counts at once what is left beyond what was seen here', () => {
    const client = new Client(server);
    for (let i = 0; i < 5; i += 1) server.say(CHAT, ANA, `m${i}`);
    for (let seq = 2; seq <= 6; seq += 1) client.hear(seq);
    client.chat = seenUpTo(client.chat, 4, client.shelf, me);
    expect(client.chat.unread).toBe(2);
    client.chat = seenUpTo(client.chat, 3, client.shelf, me);
    expect(client.chat.unread).toBe(2);
    client.chat = seenUpTo(client.chat, 99, client.shelf, me);
    expect(client.chat).toMatchObject({ unread: 0, read: { seen: 6 } });
  });
});

describe('parts', () => {
  it('jumps over a hole that is too large, keeps what it held as an old part, and joins it when it is true again', () => {
    const client = new Client(server);
    for (let i = 0; i < 20; i += 1) server.say(CHAT, ANA, `m${i}`);
    for (let seq = 2; seq <= 21; seq += 1) client.hear(seq);
    for (let i = 0; i < 1200; i += 1) server.say(CHAT, ANA, `n${i}`);
    server.edit(CHAT, ANA, 2, 'edited');
    client.askChat()();
    expect(shouldJump(client.chat)).toBe(true);
    client.chat = jump(client.chat, client.chat.head, client.shelf, me);
    expect(stale(client.chat)).toEqual([{ from: 2, to: 21, trueAt: 21 }]);
    expect(livePart(client.chat)).toBeUndefined();
    // A live event does not touch a message that is not true: it would change what is not there.
    server.react(CHAT, BEA, 2, '👍');
    client.hear(1223);
    expect(message(client, 2)).toMatchObject({ text: 'm0', reactions: [] });
    client.settle();
    expect(message(client, 2)).toMatchObject({ text: 'edited', reactions: [{ emoji: '👍', count: 1, mine: false }] });
    expect(client.chat.parts).toEqual([{ from: 1, to: 1223, trueAt: 1223 }]);
  });

  it('gives up a hole at once where nothing is held, and fills a small one where something is', () => {
    const client = new Client(server);
    server.say(CHAT, ANA, 'a');
    client.chat = noteHead(client.chat, 2);
    expect(shouldJump(client.chat)).toBe(true);
    client.fill();
    server.say(CHAT, ANA, 'b');
    client.chat = noteHead(client.chat, 3);
    expect(shouldJump(client.chat)).toBe(false);
  });

  it('holds a page of the past that the log has overtaken as an old part', () => {
    const client = new Client(server);
    for (let i = 0; i < 30; i += 1) server.say(CHAT, ANA, `m${i}`);
    client.askChat()();
    client.chat = jump(client.chat, 31, client.shelf, me);
    const late = client.ask({ kind: 'before', seq: 32, limit: 10 });
    server.edit(CHAT, ANA, 31, 'edited');
    client.hear(32);
    late();
    expect(message(client, 31)?.text).toBe('m29');
    expect(stale(client.chat)).toEqual([{ from: 22, to: 31, trueAt: 31 }]);
    client.askChanges(stale(client.chat)[0] as Part, 10)();
    expect(message(client, 31)?.text).toBe('edited');
    expect(client.chat.parts).toEqual([{ from: 22, to: 32, trueAt: 32 }]);
  });

  it('cuts the oldest events away when there are too many', () => {
    const client = new Client(server);
    for (let i = 0; i < 30; i += 1) client.hear(server.say(CHAT, ANA, `m${i}`));
    const { chat, gone } = trimmed(client.chat, 10);
    expect(gone).toEqual([{ from: 2, to: 21 }]);
    expect(chat.parts).toEqual([{ from: 22, to: 31, trueAt: 31 }]);
    expect(trimmed(chat, 10).chat).toBe(chat);
  });
});

describe('receipts', () => {
  it('are merged by the maximum, whatever their order', () => {
    const news = [{ delivered: 5, seen: 2 }, { delivered: 3, seen: 3 }, { delivered: 9, seen: 0 }];
    const inOrder = (list: typeof news) => list.reduce<Receipts>((all, r) => merged(all, new Map([['2' as UserId, r]])), new Map());
    expect(inOrder(news).get('2' as UserId)).toEqual({ delivered: 9, seen: 3 });
    expect(inOrder([...news].reverse())).toEqual(inOrder(news));
    const once = inOrder(news);
    expect(merged(once, once)).toBe(once);
  });
});

// Every interleaving of drops, repeats, reorderings, late answers, jumps and cuts ends with the truth.
describe('chaos', () => {
  for (const seed of seeds(300)) {
    it(`ends with what the server has (seed ${seed})`, () => chaos(seed));
  }
});

function chaos(seed: number): void {
  const random = mulberry(seed);
  const below = (n: number) => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;
  const world = new FakeServer();
  world.open(CHAT, [ME, ANA, BEA], ChatKind.GROUP, 'Writers');
  const client = new Client(world);
  const late: Array<() => void> = [];
  let told = 1;

  const act = () => {
    const chat = world.chat(CHAT);
    const there = chat.log.filter((e) => e.said && !e.said.deletion);
    const target = there.length > 0 ? pick(there) : undefined;
    const actor = pick([ME, ANA, ANA, BEA]);
    const dice = random();
    if (!target || dice < 0.45) {
      const m = random() < 0.3 ? { mentions: pick([{ userIds: [ME] }, { everyone: true }, { role: Role.ADMIN }]) } : {};
      const root = target && target.said?.thread === 0 && random() < 0.2 ? { thread: target.seq } : {};
      world.say(CHAT, actor, `t${chat.head}`, { ...m, ...root });
    } else if (dice < 0.55) {
      const m = pick([target.said?.mentions, undefined, { userIds: [ME] }, { role: Role.ADMIN }]);
      world.edit(CHAT, target.actor, target.seq, `e${chat.head}`, m);
    }
    else if (dice < 0.63) world.remove(CHAT, actor, [target.seq, pick(there).seq]);
    else if (dice < 0.83) world.react(CHAT, actor, target.seq, pick(['👍', '🎉', '❤️']), random() < 0.6);
    else if (dice < 0.9) world.pin(CHAT, actor, target.seq, random() < 0.6);
    else if (dice < 0.94) world.change(CHAT, actor, pick([{ title: `T${chat.head}` }, { topic: `about ${chat.head}` }]));
    else if (dice < 0.96) world.add(CHAT, ANA, [BigInt(4 + below(20))]);
    else if (dice < 0.98) world.setRole(CHAT, BEA, ME, pick([Role.READER, Role.MEMBER, Role.ADMIN]));
    else world.append(CHAT, actor, { case: undefined });
  };

  for (let step = 0; step < 250; step += 1) {
    const { chat } = client;
    const dice = random();
    if (dice < 0.4) {
      const burst = 1 + below(seed % 10 === 0 ? 60 : 4);
      for (let i = 0; i < burst; i += 1) act();
      for (; told <= world.chat(CHAT).head; told += 1) {
        const seq = told;
        const fate = random();
        if (fate < 0.6) client.hear(seq);
        else if (fate < 0.8) late.push(() => client.hear(seq));
        else if (fate < 0.88) [0, 0].forEach(() => client.hear(seq));
      }
    } else if (dice < 0.48) client.chat = noteHead(chat, below(world.chat(CHAT).head + 1));
    else if (dice < 0.58) late.push(client.ask({ kind: 'after', seq: chat.tip, limit: 1 + below(40) }));
    else if (dice < 0.68) late.push(client.ask({ kind: 'before', seq: 1 + below(chat.tip + 1), limit: 1 + below(30) }));
    else if (dice < 0.72) late.push(client.ask({ kind: 'after', seq: below(chat.tip + 1), limit: 1 + below(30) }));
    else if (dice < 0.78 && stale(chat).length > 0) late.push(client.askChanges(pick(stale(chat)), 1 + below(5)));
    else if (dice < 0.81) late.push(client.askChat());
    else if (dice < 0.83) {
      const [answer, { head }] = [client.askChat(), client.tell()];
      late.push(() => {
        answer();
        client.chat = jump(client.chat, head, client.shelf, me);
      });
    }
    else if (dice < 0.84) {
      const { chat: cut, gone } = trimmed(chat, below(60));
      client.chat = cut;
      for (const { from, to } of gone) for (let seq = from; seq <= to; seq += 1) client.events.delete(seq);
    } else if (dice < 0.87) {
      const seen = below(world.chat(CHAT).head + 1);
      const read = toRead(create(ChatSchema, { membership: { read: world.read(CHAT, ME, seen) } }).membership?.read);
      late.push(() => {
        if (newer(read, client.chat.read)) client.chat = rebased(client.chat, read, client.shelf, me);
      });
    } else if (late.length > 0) late.splice(below(late.length), 1)[0]?.();
    expectSound(client);
  }

  while (late.length > 0) late.splice(below(late.length), 1)[0]?.();
  expectSound(client);
  client.settle();
  expectTrue(client, world);
}

/** What always holds: sorted parts that do not overlap, each of their events held, nothing true beyond the head. */
function expectSound({ chat, events }: Client): void {
  let before = 0;
  let wrong: unknown;
  for (const part of chat.parts) {
    if (part.from <= before || part.to < part.from || part.to > chat.tip) wrong ??= part;
    for (let seq = part.from; seq <= part.to; seq += 1) if (!events.has(seq)) wrong ??= seq;
    before = part.to;
  }
  if (chat.aside.some((live) => live.event.seq <= chat.tip || live.prev <= chat.tip)) wrong ??= chat.aside;
  // One claim for all of them: a claim each would take most of the test's time.
  expect([wrong, chat.tip <= chat.head, chat.unread >= 0 && chat.mentions >= 0]).toEqual([undefined, true, true]);
}

function expectTrue(client: Client, world: FakeServer): void {
  const { head } = world.chat(CHAT);
  expect(client.chat.parts).toEqual([{ from: 1, to: head, trueAt: client.chat.parts[0]?.trueAt }]);
  for (let seq = 1; seq <= head; seq += 1) expect(client.events.get(seq)).toEqual(client.shown(seq));
  const { read, last, settings: _s, id: _i, head: _h, draft: _d, ...details } = client.tell();
  expect(client.chat).toMatchObject({ ...details, tip: head, unread: read.unread, mentions: read.mentions });
  expect(client.chat.last).toEqual(last);
  expect(around(client.chat.parts, head)?.trueAt).toBeGreaterThanOrEqual(head);
}

