import 'fake-indexeddb/auto';
import { Dexie } from 'dexie';
import { create } from '@bufbuild/protobuf';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ChatSchema, EventSchema } from '../../gen/tertulia/chats/v1/model_pb';
import { CallFailed, Reason } from '../api/failure';
import { randomId, type ChatId, type UserId } from '../api/ids';
import type { News } from '../live/connection';
import { Conversation } from './conversation.svelte';
import { KEPT_EVENTS, KEPT_EVENTS_MAX } from './desk';
import { FakeServer } from './fake';
import { hasHole } from './log';
import { Marks, MARK_EVERY_MS } from './marks';
import { ChatKind, LeftReason, toChat, toEvent } from './model';
import { size } from './parts';
import { Outbox } from './outbox';
import { mulberry, seeds } from './random';
import { ChatStore } from './store';
import { Sync } from './sync';

const ME = 1n;
const ANA = 2n;
const BEA = 3n;
const CHAT = 10n;
const DAY_MS = 24 * 3_600_000;
const lost = () => new CallFailed('no_connection', 'lost');
const refusal = (reason: number) => new CallFailed('invalid_argument', 'no', reason);
const id = (chat: bigint) => chat.toString() as ChatId;

/** A device of somebody: a store, and what keeps it true. */
class Device {
  store: ChatStore;
  sync: Sync;
  outbox: Outbox;
  marks: Marks;
  online = true;
  time = 0;
  retries: Array<() => void> = [];
  timers: Array<{ at: number; run: () => void }> = [];

  constructor(
    readonly server: FakeServer,
    readonly deviceId = 'here',
    // A database of its own for each test.
    readonly database = `1-${randomId()}`,
  ) {
    const carrier = { call: (m: string, r: Uint8Array) => (this.online ? server.as(ME, deviceId).call(m, r, 0) : Promise.reject(lost())) };
    const onTrouble = (trouble: unknown) => {
      throw trouble;
    };
    const later = (run: () => void, ms: number) => this.timers.push({ at: this.time + ms, run });
    this.store = new ChatStore(ME.toString() as UserId, deviceId, database);
    this.sync = new Sync({ store: this.store, carrier, catchUp: () => undefined, onWhole: () => this.outbox.wake(), onTrouble, setTimeout: later });
    this.outbox = new Outbox({
      store: this.store,
      carrier,
      ready: () => this.online && this.sync.settled,
      alone: (work) => work(),
      onTrouble,
      random: () => 0.5,
      setTimeout: (run) => this.retries.push(run),
    });
    this.marks = new Marks({ store: this.store, carrier, online: () => this.online, onTrouble, now: () => this.time, setTimeout: later });
    this.store.changes.subscribe((change) => change.outbox && this.outbox.wake());
  }

  /** As after opening the page again: the same database, everything else anew. */
  reloaded(): Device {
    this.end();
    return new Device(this.server, this.deviceId, this.database);
  }

  end(): void {
    this.sync.stop();
    this.outbox.stop();
    this.marks.stop();
    this.store.close();
  }

  async take(...news: News[]): Promise<void> {
    for (const one of news) this.sync.take(one);
    await this.sync.idle();
  }

  /** Lets time go by, and what was to be done in it. */
  pass(ms: number): void {
    this.time += ms;
    const due = this.timers.filter((timer) => timer.at <= this.time);
    this.timers = this.timers.filter((timer) => timer.at > this.time);
    for (const { run } of due) run();
  }

  async cursor(): Promise<number | undefined> {
    return (await this.store.cursor())[0];
  }

  async texts(chat: bigint): Promise<Array<string | undefined>> {
    const held = await this.store.events(id(chat), 0, 1e9);
    return held.flatMap((e) => (e.message ? [e.message.text] : []));
  }

  async chat(chat = CHAT) {
    return await this.store.chat(id(chat));
  }

  /** Until nothing is missing. */
  async whole(): Promise<void> {
    await until(async () => {
      this.pass(1000);
      const lacking = await this.store.lacking();
      return lacking.holes.length + lacking.ask.length === 0 && lacking.own === undefined;
    });
  }
}

let server: FakeServer;
let device: Device;
let devices: Device[];

beforeEach(() => {
  server = new FakeServer();
  server.open(CHAT, [ME, ANA]);
  device = new Device(server);
  devices = [device];
});

afterEach(() => devices.forEach((d) => d.end()));

/** Until a claim holds; the claims here are about what stores and calls will have done. */
async function until(claim: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 2000; i += 1) {
    if (await claim()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('it did not come true');
}

const say = (text: string, actor = ANA, chat = CHAT) => server.say(chat, actor, text);
const news = (seq: number, chat = CHAT) => server.news(chat, seq);

describe('sync', () => {
  it('stores the first answer with its cursor, and counts as unread what the server says', async () => {
    say('old');
    server.read(CHAT, ME, 1);
    say('newer');
    await device.take(server.reset(1, ME));
    expect(await device.store.chats()).toMatchObject([{ id: '10', head: 2, tip: 2, unread: 1, last: { message: { text: 'newer' } } }]);
    expect(await device.cursor()).toBe(1);
  });

  it('adopts the cursor of a heartbeat when everything up to its heads is held', async () => {
    await device.take(server.reset(1, ME), news(say('a')), server.heartbeat(2, [[CHAT, 1]], server.ownHead(ME)));
    expect(await device.cursor()).toBe(2);
    expect(server.calls).toEqual(['ListScheduledMessages']);
  });

  it('does not adopt a cursor that covers a lost event until it has read the event', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    say('b');
    server.failures.push({ method: 'ListEvents', failure: lost() });
    await device.take(server.heartbeat(2, [[CHAT, 2]], 1));
    await until(() => server.calls.includes('ListEvents'));
    expect(await device.cursor()).toBe(1);
    await device.take(server.heartbeat(3, [], 1));
    await until(async () => (await device.cursor()) === 3);
    expect(await device.texts(CHAT)).toEqual(['a', 'b']);
  });

  it('does not adopt a heartbeat without a cursor', async () => {
    await device.take(server.reset(1, ME), server.heartbeat(0, []));
    expect(await device.cursor()).toBe(1);
  });

  it('waits a moment for what is missing between two events, then asks for it', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    say('b');
    await device.take(news(say('c')));
    device.pass(299);
    await device.sync.idle();
    expect(server.calls).not.toContain('ListEvents');
    expect(await device.texts(CHAT)).toEqual(['a']);
    device.pass(1);
    await until(async () => (await device.texts(CHAT)).length === 3);
    expect(await device.texts(CHAT)).toEqual(['a', 'b', 'c']);
  });

  it('does not ask for an event that was only overtaken', async () => {
    await device.take(server.reset(1, ME));
    const [a, b] = [say('a'), say('b')];
    await device.take(news(b), news(a));
    device.pass(1000);
    await device.whole();
    expect(await device.texts(CHAT)).toEqual(['a', 'b']);
    expect(server.calls).not.toContain('ListEvents');
  });

  it('learns of a chat whose beginning it missed', async () => {
    await device.take(server.reset(1, ME));
    server.open(11n, [ME, ANA]);
    await device.take(news(say('hello', ANA, 11n), 11n));
    await device.whole();
    expect(await device.chat(11n)).toMatchObject({ unknown: 0, memberIds: ['1', '2'], unread: 1 });
  });

  it('reads the own log when a heartbeat shows that it moved', async () => {
    await device.take(server.reset(1, ME));
    server.open(11n, [ME, ANA]);
    await device.take(server.heartbeat(2, [], 2));
    await until(async () => (await device.cursor()) === 2);
    expect(await device.chat(11n)).toMatchObject({ unknown: 0 });
  });

  it('fills what is missing where something is held, and jumps where nothing is', async () => {
    server.open(11n, [ME, ANA]);
    await device.take(server.reset(1, ME), news(say('a')));
    say('b');
    say('x', ANA, 11n);
    say('y', ANA, 11n);
    await device.take(server.changed(2, ME, [CHAT, 11n]));
    await until(async () => (await device.cursor()) === 2);
    expect(await device.texts(CHAT)).toEqual(['a', 'b']);
    expect(await device.chat(11n)).toMatchObject({ tip: 2, parts: [], unread: 2, last: { message: { text: 'y' } } });
    expect(server.calls.filter((name) => name === 'ListEvents')).toHaveLength(1);
  });

  it('jumps over more than it would fill, and keeps what it held as an old part', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    for (let i = 0; i < 1500; i += 1) say(`m${i}`);
    server.edit(CHAT, ANA, 1, 'edited');
    await device.take(server.changed(2, ME, [CHAT]));
    expect(await device.chat()).toMatchObject({ tip: 1502, parts: [{ from: 1, to: 1, trueAt: 1 }], unread: 1501, readStale: false });
    expect(await device.cursor()).toBe(2);
  });

  it('stores the cursor of an answer only when the holes that it left are filled', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    say('b');
    server.failures.push({ method: 'ListEvents', failure: lost() });
    await device.take(server.changed(2, ME, [CHAT]));
    await until(() => server.calls.includes('ListEvents'));
    expect(await device.cursor()).toBe(1);
    await device.take(server.heartbeat(3, [], 1));
    await until(async () => (await device.cursor()) === 3);
  });

  it('takes own events of a delta before those of chats', async () => {
    await device.take(server.reset(1, ME));
    const head = server.ownHead(ME);
    server.open(11n, [ANA, ME], ChatKind.GROUP, 'Club');
    const seq = say('welcome', ANA, 11n);
    const own = server.own.get(ME)?.slice(head) ?? [];
    const events = [server.live(11n, seq)];
    await device.take(server.missed(2, { case: 'delta', value: { ownEvents: own, events } }));
    expect(await device.chat(11n)).toMatchObject({ title: 'Club', tip: 2, unread: 1 });
    expect(await device.texts(11n)).toEqual(['welcome']);
    expect(await device.cursor()).toBe(2);
  });

  it('drops what another epoch held, and keeps unsent messages and drafts', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    device.online = false;
    await device.store.enqueue(id(CHAT), { text: 'mine' }, 5);
    await device.store.putDraft({ chatId: id(CHAT), text: 'begun', replyTo: 0, atMs: 1, dirty: true });
    server.epoch = 'two';
    server.chat(CHAT).log = [];
    await device.take(server.reset(2, ME));
    expect(await device.texts(CHAT)).toEqual([]);
    expect(await device.store.unsent()).toMatchObject([{ text: 'mine', state: 'waiting' }]);
    expect(await device.store.draft(id(CHAT))).toMatchObject({ text: 'begun' });
    expect(await device.cursor()).toBe(2);
  });

  it('keeps what it holds when only the cursor was not understood', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    await device.take(server.reset(2, ME));
    expect(await device.texts(CHAT)).toEqual(['a']);
    expect(await device.chat()).toMatchObject({ parts: [{ from: 1, to: 1, trueAt: 1 }] });
  });

  it('goes on after a reload from the stored cursor', async () => {
    await device.take(server.reset(1, ME));
    device = device.reloaded();
    devices.push(device);
    expect(await device.cursor()).toBe(1);
    const seq = say('a');
    await device.take(server.missed(2, { case: 'delta', value: { events: [server.live(CHAT, seq)] } }));
    expect(await device.texts(CHAT)).toEqual(['a']);
    expect(await device.cursor()).toBe(2);
  });

  it('holds no more events of a chat than it should', async () => {
    await device.take(server.reset(1, ME));
    for (let i = 0; i <= KEPT_EVENTS_MAX; i += 1) device.sync.take(news(say(`m${i}`)));
    await device.sync.idle();
    expect(size((await device.chat())?.parts ?? [])).toBe(KEPT_EVENTS);
    expect(await device.texts(CHAT)).toHaveLength(KEPT_EVENTS);
    expect((await device.texts(CHAT)).at(-1)).toBe(`m${KEPT_EVENTS_MAX}`);
  });
});

describe('verifying', () => {
  beforeEach(() => device.take(server.reset(1, ME)));

  const spoil = async (seq: number, text: string) => {
    const db = await new Dexie(`tertulia-chats-${device.database}`).open();
    await db.table('events').where('[chatId+seq]').equals([id(CHAT), seq]).modify((event) => (event.message.text = text));
    db.close();
  };

  it('finds nothing wrong with what is true, hidden, edited and deleted', async () => {
    for (let i = 0; i < 12; i += 1) await device.take(news(say(`m${i}`)));
    await device.take(news(server.edit(CHAT, ANA, 1, 'edited')), news(server.remove(CHAT, ANA, [2])), news(server.react(CHAT, ANA, 3, '👍')));
    server.hide(CHAT, ME, [4]);
    await device.take(server.ownNews(ME, server.ownHead(ME)));
    expect(await device.sync.verify(id(CHAT))).toEqual({ compared: 15, healed: 0 });
    expect(server.calls).not.toContain('ListEvents');
  });

  it('reads again what differs, and asks how much is unread', async () => {
    for (let i = 0; i < 600; i += 1) device.sync.take(news(say(`m${i}`)));
    await device.sync.idle();
    await spoil(3, 'not what was said');
    expect(await device.sync.verify(id(CHAT))).toEqual({ compared: 600, healed: 500 });
    expect((await device.texts(CHAT))[2]).toBe('m2');
    await device.whole();
    expect(server.calls.filter((name) => name === 'ListEvents' || name === 'GetChat')).toEqual(['ListEvents', 'GetChat']);
    expect(await device.chat()).toMatchObject({ unread: 600, readStale: false, parts: [{ from: 1, to: 600, trueAt: 600 }] });
    expect(await device.sync.verify(id(CHAT))).toEqual({ compared: 600, healed: 0 });
  });

  it('heals the message that the list of chats shows', async () => {
    await device.take(news(say('a')));
    await spoil(1, 'b');
    await device.sync.verify(id(CHAT));
    expect((await device.chat())?.last?.message?.text).toBe('a');
  });

  it('skips what was changed after the digests were made, and what is not up to date', async () => {
    await device.take(news(say('a')), news(say('b')));
    await spoil(1, 'wrong');
    // Heard here, and not yet counted in by the node that answers.
    const answered = server.edit(CHAT, ANA, 2, 'edited');
    await device.take(news(answered));
    server.chat(CHAT).log.pop();
    expect(await device.sync.verify(id(CHAT))).toEqual({ compared: 0, healed: 0 });
  });

  it('does not put an older answer in the place of what was heard since', async () => {
    await device.take(news(say('a')), news(say('b')));
    const [first, second] = await device.store.events(id(CHAT), 1, 2);
    if (!first || !second) throw new Error('nothing is held');
    expect(await device.store.heal(id(CHAT), { from: 1, to: 2 }, [first, second], 1)).toBe(false);
    expect(await device.store.heal(id(CHAT), { from: 1, to: 3 }, [first, second], 9)).toBe(false);
    expect(await device.store.heal(id(CHAT), { from: 1, to: 2 }, [first, second], 2)).toBe(true);
  });

  it('keeps a mark that came while it read again', async () => {
    await device.take(news(say('a')));
    const [before] = await device.store.events(id(CHAT), 1, 1);
    server.hide(CHAT, ME, [1]);
    await device.take(server.ownNews(ME, server.ownHead(ME)));
    if (before) await device.store.heal(id(CHAT), { from: 1, to: 1 }, [before], 1);
    expect(await device.store.events(id(CHAT), 1, 1)).toMatchObject([{ message: { hidden: true, text: '' } }]);
  });
});

describe('the own log', () => {
  beforeEach(() => device.take(server.reset(1, ME)));

  const own = () => server.ownNews(ME, server.ownHead(ME));

  it('remembers a mark whose message is not here yet', async () => {
    const seq = say('gone');
    server.hide(CHAT, ME, [seq]);
    await device.take(own(), news(seq));
    expect((await device.store.events(id(CHAT), seq, seq))[0]?.message).toMatchObject({ hidden: true, text: '' });
  });

  it('brings chats and takes them away', async () => {
    server.open(11n, [ANA, ME], ChatKind.GROUP, 'Club');
    await device.take(own(), news(say('a', ANA, 11n), 11n));
    expect((await device.store.chats()).map((chat) => chat.title)).toContain('Club');
    server.part(11n, ANA, ME);
    await device.take(own());
    expect((await device.store.chats()).map((chat) => chat.title)).not.toContain('Club');
    expect(await device.chat(11n)).toMatchObject({ title: 'Club', left: { reason: LeftReason.REMOVED, by: '2' } });
    expect(await device.texts(11n)).toEqual([]);
    // A late frame does not bring it back, another invitation does.
    await device.take(news(1, 11n));
    expect((await device.chat(11n))?.left).toBeDefined();
    server.add(11n, ANA, [ME]);
    await device.take(own());
    expect(await device.chat(11n)).toMatchObject({ title: 'Club', unknown: 0 });
    expect(await device.chat(11n)).not.toHaveProperty('left');
  });

  it('does not take a late frame for a chat that it left before this device was here', async () => {
    server.open(11n, [ANA, ME], ChatKind.GROUP, 'Club');
    say('a', ANA, 11n);
    server.part(11n, ANA, ME);
    const other = new Device(server);
    devices.push(other);
    await other.take(server.reset(1, ME), news(1, 11n));
    await other.whole();
    expect((await other.store.chat(id(11n)))?.left).toBeDefined();
    expect(await other.store.chats()).toHaveLength(1);
    server.add(11n, ANA, [ME]);
    await other.take(own());
    expect((await other.store.chats()).map((chat) => chat.title)).toContain('Club');
  });

  it('believes the own log more than an answer that was given before', async () => {
    server.open(11n, [ANA, ME], ChatKind.GROUP, 'Club');
    let arrive = () => {};
    server.delayed.set('GetChat', new Promise((resolve) => (arrive = resolve)));
    await device.take(news(say('a', ANA, 11n), 11n));
    device.pass(1000);
    await until(() => server.calls.includes('GetChat'));
    server.part(11n, ANA, ME);
    const head = server.ownHead(ME);
    await device.take(server.ownNews(ME, head - 1), server.ownNews(ME, head));
    arrive();
    await device.whole();
    expect((await device.chat(11n))?.left).toBeDefined();
  });

  it('does not take a chat for gone by an answer that was given before it came in', async () => {
    server.open(11n, [ANA], ChatKind.GROUP, 'Club');
    const told = news(say('a', ANA, 11n), 11n);
    await device.take(told);
    const askedAt = await device.store.ownTip();
    server.add(11n, ANA, [ME]);
    await device.take(own());
    await device.store.gone(id(11n), askedAt);
    expect((await device.store.chats()).map((chat) => chat.title)).toContain('Club');
  });

  it('moves what was read, clears the mark, and counts what came after it', async () => {
    const seqs = ['a', 'b', 'c'].map((text) => say(text));
    await device.take(...seqs.map((seq) => news(seq)));
    const chat = await device.chat();
    await device.store.putSettings(id(CHAT), { ...(chat as NonNullable<typeof chat>).settings, markedUnread: true });
    server.read(CHAT, ME, 2);
    await device.take(own());
    expect(await device.chat()).toMatchObject({ unread: 1, settings: { markedUnread: false } });
  });

  it('changes settings and drafts, but not a draft that is being typed here', async () => {
    const carrier = server.as(ME, 'phone');
    const call = async (method: string, value: Uint8Array) => await carrier.call(`x/${method}`, value, 0);
    const { create: make, toBinary } = await import('@bufbuild/protobuf');
    const { ChatsService } = await import('../../gen/tertulia/chats/v1/chats_pb');
    const { updateChatSettings, updateDraft } = ChatsService.method;
    await call('UpdateChatSettings', toBinary(updateChatSettings.input, make(updateChatSettings.input, { chatId: CHAT, settings: { archived: true, favorite: true } })));
    await device.take(own());
    expect(await device.chat()).toMatchObject({ settings: { archived: true, favorite: true } });
    const draft = (text: string) => call('UpdateDraft', toBinary(updateDraft.input, make(updateDraft.input, { chatId: CHAT, draft: { text } })));
    await draft('from the phone');
    await device.take(own());
    expect(await device.store.draft(id(CHAT))).toMatchObject({ text: 'from the phone', dirty: false });
    await device.store.putDraft({ chatId: id(CHAT), text: 'typed here', replyTo: 0, atMs: 2, dirty: true });
    await draft('');
    await device.take(own());
    expect(await device.store.draft(id(CHAT))).toMatchObject({ text: 'typed here' });
  });

  it('hides messages, and a later answer does not show them again', async () => {
    const seq = say('secret');
    const before = server.shown(CHAT, seq, ME);
    await device.take(news(seq));
    server.hide(CHAT, ME, [seq]);
    await device.take(own());
    expect((await device.store.events(id(CHAT), 1, 1))[0]?.message).toMatchObject({ hidden: true, text: '' });
    const late = toEvent(create(EventSchema, before));
    await device.store.putPage(id(CHAT), { kind: 'before', seq: 2, limit: 5 }, [late], 1);
    expect((await device.store.events(id(CHAT), 1, 1))[0]?.message).toMatchObject({ hidden: true, text: '' });
  });

  it('hides a message that comes only after it was hidden', async () => {
    const seq = say('secret');
    server.hide(CHAT, ME, [seq]);
    await device.take(own(), news(seq));
    expect((await device.store.events(id(CHAT), 1, 1))[0]?.message).toMatchObject({ hidden: true, text: '' });
  });

  it('knows the scheduled messages', async () => {
    server.own.get(ME)?.push({ seq: 2n, body: { case: 'scheduleChanged', value: { scheduledId: 5n, scheduled: { scheduledId: 5n, chatId: CHAT, text: 'later', sendAtMs: 99n } } } });
    await device.take(server.ownNews(ME, 2));
    expect(await device.store.scheduled()).toMatchObject([{ id: '5', text: 'later', sendAtMs: 99 }]);
    server.own.get(ME)?.push({ seq: 3n, body: { case: 'scheduleChanged', value: { scheduledId: 5n } } });
    await device.take(server.ownNews(ME, 3));
    expect(await device.store.scheduled()).toEqual([]);
  });

  it('is taken in its order, whatever the order in which it comes', async () => {
    server.open(11n, [ANA, ME], ChatKind.GROUP, 'Club');
    server.part(11n, ANA, ME);
    const head = server.ownHead(ME);
    await device.take(server.ownNews(ME, head), server.ownNews(ME, head - 1));
    expect((await device.chat(11n))?.left).toBeDefined();
  });
});

describe('outbox', () => {
  beforeEach(() => device.take(server.reset(1, ME)));

  const write = (text: string, chat = CHAT) => device.store.enqueue(id(chat), { text }, 1);
  const sent = (chat = CHAT) => server.chat(chat).log.flatMap((e) => e.said?.text ?? []);

  it('sends the messages of a chat in their order, with reply, thread and mentions', async () => {
    say('root');
    for (const text of ['a', 'b']) await write(text);
    await device.store.enqueue(id(CHAT), { text: 'c', replyTo: 1, threadSeq: 1, mentions: { userIds: ['2' as UserId], everyone: false, role: 0 } }, 1);
    await device.outbox.idle();
    expect(sent()).toEqual(['root', 'a', 'b', 'c']);
    expect(server.chat(CHAT).log.at(-1)?.said).toMatchObject({ replyTo: 1, thread: 1, mentions: { userIds: [ANA] } });
  });

  it('keeps an acknowledged message until its event is held', async () => {
    await write('a');
    await device.outbox.idle();
    expect(await device.store.unsent()).toMatchObject([{ state: 'sent', seq: 1 }]);
    expect(await device.chat()).toMatchObject({ head: 1, tip: 0 });
    await device.take(news(1));
    expect(await device.store.unsent()).toEqual([]);
    expect(await device.texts(CHAT)).toEqual(['a']);
  });

  it('reads the event of an acknowledged message that does not come by itself', async () => {
    await device.take(news(say('before')));
    await write('a');
    await device.outbox.idle();
    await device.take(server.heartbeat(2, [[CHAT, 2]], 1));
    await until(async () => (await device.store.unsent()).length === 0);
    expect(await device.texts(CHAT)).toEqual(['before', 'a']);
  });

  it('sends a message once although the answer was lost', async () => {
    server.failures.push({ method: 'SendMessage', failure: lost(), after: true });
    await write('a');
    await device.outbox.idle();
    expect(await device.store.unsent()).toMatchObject([{ state: 'waiting', tried: true }]);
    device.retries.shift()?.();
    await device.outbox.idle();
    expect(sent()).toEqual(['a']);
  });

  it('does not send a message whose outcome is not known while its chat has a hole', async () => {
    server.failures.push({ method: 'SendMessage', failure: lost(), after: true });
    await write('a');
    await device.outbox.idle();
    await device.store.noteHeads({ chats: new Map([[id(CHAT), 1]]), own: 0 });
    server.calls = [];
    device.outbox.wake();
    await device.outbox.idle();
    expect(server.calls).not.toContain('SendMessage');
    await device.take(news(1));
    device.outbox.wake();
    await device.outbox.idle();
    expect(await device.store.unsent()).toEqual([]);
    expect(server.calls).not.toContain('SendMessage');
  });

  it('does not send before what was missed is known', async () => {
    const fresh = new Device(server);
    devices.push(fresh);
    await fresh.store.enqueue(id(CHAT), { text: 'a' }, 1);
    await fresh.outbox.idle();
    expect(sent()).toEqual([]);
    await fresh.take(server.reset(1, ME));
    await until(() => sent().length === 1);
  });

  it('survives a reload', async () => {
    device.online = false;
    await write('a');
    await device.outbox.idle();
    device = device.reloaded();
    devices.push(device);
    await device.take(server.reset(2, ME));
    await until(() => sent().length === 1);
    expect(sent()).toEqual(['a']);
  });

  it('does not let a later message overtake one that must be tried again', async () => {
    server.failures.push({ method: 'SendMessage', failure: lost() });
    device.online = false;
    await write('a');
    await write('b');
    device.online = true;
    device.outbox.wake();
    await device.outbox.idle();
    expect(sent()).toEqual([]);
    device.retries.shift()?.();
    await device.outbox.idle();
    expect(sent()).toEqual(['a', 'b']);
  });

  it('keeps a refused message with its reason, sends the others, and sends it when asked to', async () => {
    server.failures.push({ method: 'SendMessage', failure: refusal(3) });
    await write('a');
    await write('b');
    await device.outbox.idle();
    const failed = (await device.store.unsent()).find((unsent) => unsent.state === 'failed');
    expect(failed).toMatchObject({ text: 'a', reason: 3 });
    expect(sent()).toEqual(['b']);
    await device.store.retry(failed?.clientMessageId ?? '', false);
    await device.outbox.idle();
    expect(sent()).toEqual(['b', 'a']);
    server.failures.push({ method: 'SendMessage', failure: refusal(3) });
    await write('c');
    await device.outbox.idle();
    const other = (await device.store.unsent()).find((unsent) => unsent.state === 'failed');
    await device.store.discard(other?.clientMessageId ?? '');
    expect((await device.store.unsent()).filter((unsent) => unsent.state === 'failed')).toEqual([]);
  });

  it('takes the event of an own message for its acknowledgement', async () => {
    device.online = false;
    await write('a');
    const [unsent] = await device.store.unsent();
    await device.take(news(server.say(CHAT, ME, 'a', { clientMessageId: unsent?.clientMessageId ?? '', deviceId: 'here' })));
    expect(await device.store.unsent()).toEqual([]);
    expect(await device.texts(CHAT)).toEqual(['a']);
  });

  it('sends a thousand messages of three days without a connection, each once and in order', async () => {
    server.open(11n, [ME, ANA]);
    await device.take(server.ownNews(ME, 2));
    device.online = false;
    const texts = Array.from({ length: 1000 }, (_, i) => `message ${i}`);
    for (const [i, text] of texts.entries()) {
      await device.store.enqueue(id(i % 3 === 0 ? 11n : CHAT), { text }, Math.round((i * 3 * DAY_MS) / 1000));
      if (i % 250 === 0) device.pass((3 * DAY_MS) / 4);
    }
    expect(sent()).toEqual([]);
    device = device.reloaded();
    devices.push(device);
    // Now and then an answer is lost on the way.
    for (let i = 0; i < 20; i += 1) server.failures.push({ method: 'SendMessage', failure: lost(), after: i % 2 === 0 });
    server.onFrame = (user, frame) => {
      const told = user === ME ? server.asNews(frame) : undefined;
      if (told) device.sync.take(told);
    };
    await device.take(server.reset(2, ME));
    await until(async () => {
      device.retries.splice(0).forEach((run) => run());
      await device.outbox.idle();
      await device.sync.idle();
      return (await device.store.unsent()).length === 0;
    });
    expect(sent()).toEqual(texts.filter((_, i) => i % 3 !== 0));
    expect(sent(11n)).toEqual(texts.filter((_, i) => i % 3 === 0));
  }, 60_000);
});

describe('marks', () => {
  beforeEach(() => device.take(server.reset(1, ME)));

  it('are told at most once a second, gathered over chats', async () => {
    server.open(11n, [ME, ANA]);
    await device.take(server.ownNews(ME, 2));
    for (let i = 0; i < 10; i += 1) {
      await device.take(news(say(`a${i}`)), news(say(`b${i}`, ANA, 11n), 11n));
      device.marks.wake();
      device.pass(100);
      await device.marks.idle();
    }
    expect(server.calls.filter((name) => name === 'MarkDelivered')).toHaveLength(1);
    device.pass(MARK_EVERY_MS);
    await device.marks.idle();
    expect(server.calls.filter((name) => name === 'MarkDelivered')).toHaveLength(2);
    expect([CHAT, 11n].map((chat) => server.chat(chat).seat(ME).delivered)).toEqual([10, 10]);
    device.marks.wake();
    device.pass(MARK_EVERY_MS);
    await device.marks.idle();
    expect(server.calls.filter((name) => name === 'MarkDelivered')).toHaveLength(2);
  });

  it('of what was read show at once, survive being offline, and are told when they can be', async () => {
    await device.take(news(say('a')), news(say('b')));
    device.online = false;
    await device.store.see(id(CHAT), 2);
    expect(await device.chat()).toMatchObject({ unread: 0, toMark: 2 });
    device.marks.wake();
    device.pass(MARK_EVERY_MS);
    await device.marks.idle();
    expect(server.chat(CHAT).seat(ME).seen).toBe(0);
    device = device.reloaded();
    devices.push(device);
    device.marks.wake();
    device.pass(MARK_EVERY_MS);
    await device.marks.idle();
    expect(server.chat(CHAT).seat(ME).seen).toBe(2);
    expect(await device.chat()).toMatchObject({ toMark: 0 });
  });

  it('give the same counts on all devices', async () => {
    const phone = new Device(server, 'phone');
    devices.push(phone);
    await phone.take(server.reset(1, ME));
    const seqs = ['a', 'b', 'c'].map((text) => server.say(CHAT, ANA, text, { mentions: { userIds: [ME] } }));
    for (const d of [device, phone]) await d.take(...seqs.map((seq) => news(seq)));
    await device.store.see(id(CHAT), 2);
    device.marks.wake();
    device.pass(MARK_EVERY_MS);
    await device.marks.idle();
    await phone.take(server.ownNews(ME, server.ownHead(ME)));
    for (const d of [device, phone]) expect(await d.chat()).toMatchObject({ unread: 1, mentions: 1 });
  });
});

describe('the database', () => {
  it('of the first version gives its unsent messages to the next one, and the rest is begun anew', async () => {
    const name = `1-${randomId()}`;
    const old = new Dexie(`tertulia-chats-${name}`);
    old.version(1).stores({ chats: 'id, activeAtMs, unknown', events: '[chatId+seq]', outbox: '++order, &clientMessageId, chatId, state', meta: 'key' });
    await old.table('outbox').bulkAdd([
      { clientMessageId: 'first-0001', chatId: '10', text: 'one', atMs: 1, state: 'waiting' },
      { clientMessageId: 'second-001', chatId: '10', text: 'two', atMs: 2, state: 'failed', reason: 3 },
    ]);
    await old.table('chats').add({ id: '10', head: 5, synced: 5, ranges: [[1, 5]], seen: 2, activeAtMs: 1, unknown: 0 });
    await old.table('events').add({ chatId: '10', seq: 1 });
    await old.table('meta').add({ key: 'cursor', value: new Uint8Array([9]) });
    old.close();
    const next = new Device(server, 'here', name);
    devices.push(next);
    expect(await next.store.unsent()).toMatchObject([
      { clientMessageId: 'first-0001', text: 'one', state: 'waiting', replyTo: 0, threadSeq: 0 },
      { clientMessageId: 'second-001', text: 'two', state: 'failed', reason: 3 },
    ]);
    expect(await next.store.chats()).toEqual([]);
    expect(await next.texts(CHAT)).toEqual([]);
    expect(await next.store.cursor()).toHaveLength(0);
    await next.take(server.reset(1, ME));
    await until(() => server.chat(CHAT).log.length === 1);
    expect(server.chat(CHAT).log[0]?.said?.text).toBe('one');
  });
});

describe('conversation', () => {
  const open = (heard: string[] = []) =>
    new Conversation({
      store: device.store,
      carrier: server.as(ME, 'here'),
      chatId: id(CHAT),
      me: { userId: '1' as UserId, deviceId: 'here' },
      onHeard: (items) => heard.push(...items.map((i) => i.text)),
      onTrouble: (trouble) => {
        throw trouble;
      },
      now: () => 0,
    });

  it('shows a message from writing to its place in the log under one key', async () => {
    await device.take(server.reset(1, ME));
    const conversation = open();
    await until(() => conversation.loaded);
    device.online = false;
    await conversation.send({ text: 'mine' });
    await until(() => conversation.items[0]?.state === 'sending');
    const key = conversation.items[0]?.key;
    device.online = true;
    device.outbox.wake();
    await until(() => conversation.items[0]?.state === 'stored');
    expect(conversation.items).toMatchObject([{ key, text: 'mine', own: true }]);
    await device.take(news(1));
    await until(() => conversation.items[0]?.seq === 1);
    expect(conversation.items).toMatchObject([{ key, seq: 1, text: 'mine' }]);
    conversation.stop();
  });

  it('reads the newest page of a chat that moved, then the past from where it is held', async () => {
    for (let i = 1; i <= 100; i += 1) say(`m${i}`);
    server.read(CHAT, ME, 100);
    await device.take(server.reset(1, ME));
    const heard: string[] = [];
    const conversation = open(heard);
    await until(() => conversation.loaded);
    expect(conversation.items.map((i) => i.seq)).toEqual(Array.from({ length: 60 }, (_, i) => i + 41));
    await conversation.loadOlder();
    expect(conversation.prepended).toBe(true);
    expect(conversation.items).toHaveLength(100);
    expect(conversation.atStart).toBe(true);
    await device.take(news(say('new')));
    await until(() => conversation.items.length === 101);
    expect(heard).toEqual(['new']);
    conversation.stop();
  });

  it('brings an old part up to date before it shows it', async () => {
    await device.take(server.reset(1, ME), ...[1, 2, 3].map((i) => news(say(`m${i}`))));
    for (let i = 0; i < 1100; i += 1) say(`n${i}`);
    server.edit(CHAT, ANA, 2, 'edited');
    server.remove(CHAT, ANA, [3]);
    server.read(CHAT, ME, 2000);
    await device.take(server.changed(2, ME, [CHAT]));
    const conversation = open();
    await until(() => conversation.loaded);
    expect(await conversation.jumpTo(2)).toBe(true);
    expect(conversation.items.slice(0, 3)).toMatchObject([{ text: 'm1' }, { text: 'edited' }, { text: '', message: { deletion: { by: '2' } } }]);
    expect(server.calls).toContain('ListChanges');
    expect(conversation.atTip).toBe(false);
    for (let i = 0; i < 40 && !conversation.atTip; i += 1) await conversation.loadNewer();
    expect(conversation.atTip).toBe(true);
    const seqs = conversation.items.flatMap((i) => i.seq ?? []);
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, i) => (seqs[0] ?? 0) + i));
    expect(seqs.at(-1)).toBe(1103);
    conversation.stop();
  });

  it('opens where reading stopped when much is unread, and shows the end when asked to', async () => {
    for (let i = 1; i <= 300; i += 1) say(`m${i}`);
    server.read(CHAT, ME, 100);
    await device.take(server.reset(1, ME));
    const conversation = open();
    await until(() => conversation.loaded && conversation.items.length > 0);
    expect(conversation.firstNew).toBe(101);
    expect(conversation.items.some((i) => i.seq === 101)).toBe(true);
    expect(conversation.atTip).toBe(false);
    await conversation.toEnd();
    await until(() => conversation.items.at(-1)?.seq === 300);
    conversation.stop();
  });

  it('shows a change at once, and takes it back when it is refused', async () => {
    await device.take(server.reset(1, ME), news(say('a')));
    const conversation = open();
    await until(() => conversation.items.length === 1);
    const shown: Array<string | undefined> = [];
    const refused = conversation.change(1, (m) => ({ ...m, text: 'b' }), async () => {
      shown.push(conversation.items[0]?.text);
      throw refusal(Reason.NOT_ALLOWED);
    });
    await expect(refused).rejects.toMatchObject({ reason: Reason.NOT_ALLOWED });
    shown.push(conversation.items[0]?.text);
    await conversation.change(1, (m) => ({ ...m, text: 'c' }), async () => ({ seq: BigInt(server.edit(CHAT, ANA, 1, 'c')) }));
    shown.push(conversation.items[0]?.text);
    await device.take(news(2));
    await until(() => conversation.items[0]?.message?.changedSeq === 2);
    expect([...shown, conversation.items[0]?.text]).toEqual(['b', 'a', 'c', 'c']);
    conversation.stop();
  });

  it('keeps quoted messages true that are not among those that are shown', async () => {
    for (let i = 1; i <= 200; i += 1) say(`m${i}`);
    server.read(CHAT, ME, 200);
    await device.take(server.reset(1, ME));
    const conversation = open();
    await until(() => conversation.loaded);
    conversation.need([5]);
    await until(() => conversation.quoted(5) !== undefined);
    server.edit(CHAT, ANA, 5, 'edited');
    await device.take(news(201));
    await until(() => conversation.quoted(5)?.message?.text === 'edited');
    conversation.stop();
  });
});

// Two devices of one person, a bad network, reloads: both end with what the server has.
describe('chaos', () => {
  for (const seed of seeds(25)) {
    it(`ends with what the server has on every device (seed ${seed})`, () => chaos(seed), 30_000);
  }
});

async function chaos(seed: number): Promise<void> {
  const random = mulberry(seed);
  const below = (n: number) => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;
  const chats = [CHAT, 20n, 30n];
  server.open(20n, [ANA, ME, BEA], ChatKind.GROUP, 'Club');
  server.open(30n, [BEA, ME], ChatKind.GROUP, 'Pair');
  const both = [device, new Device(server, 'phone')];
  devices.push(...both);
  for (const d of both) await d.take(server.reset(1, ME));
  /** What each device has not been told yet. */
  const queues = both.map(() => [] as News[]);
  let cursor = 1;
  server.onFrame = (user, frame) => {
    if (user !== ME) return;
    const news = server.asNews(frame);
    if (news?.kind === 'chat_event' || news?.kind === 'own_event') for (const queue of queues) queue.push(news);
  };
  for (let step = 0; step < 120; step += 1) {
    const i = below(2);
    const d = both[i] as Device;
    const queue = queues[i] as News[];
    const dice = random();
    const chat = pick(chats);
    const inside = server.chat(chat).seats.has(ME);
    const there = server.chat(chat).log.filter((e) => e.said && !e.said.deletion);
    if (dice < 0.3) server.say(chat, pick([ANA, BEA].filter((u) => server.chat(chat).seats.has(u))), `t${step}`, { clientMessageId: `other-${step}` });
    else if (dice < 0.4 && there.length > 0) server.react(chat, ANA, pick(there).seq, pick(['👍', '🎉']), random() < 0.6);
    else if (dice < 0.45 && there.length > 0) server.remove(chat, BEA, [pick(there).seq]);
    else if (dice < 0.5 && inside) await d.store.enqueue(id(chat), { text: `mine ${step}` }, step);
    else if (dice < 0.55 && inside) server.read(chat, ME, below(server.chat(chat).head + 1));
    else if (dice < 0.57 && chat === 20n) {
      if (inside) server.part(20n, ANA, ME);
      else server.add(20n, ANA, [ME]);
    } else if (dice < 0.59 && inside && there.length > 0) server.hide(chat, ME, [pick(there).seq]);
    else if (dice < 0.9) {
      // Some frames come, some are lost, some come late.
      for (let n = below(6); n > 0 && queue.length > 0; n -= 1) {
        const frame = queue.splice(random() < 0.8 ? 0 : below(queue.length), 1)[0] as News;
        if (random() < 0.85) await d.take(frame);
      }
    } else if (dice < 0.95) {
      const heads = chats.filter((c) => server.chat(c).seats.has(ME)).map((c) => [c, server.chat(c).head] as [bigint, number]);
      await d.take(server.heartbeat((cursor = (cursor % 200) + 1), heads, server.ownHead(ME)));
    } else {
      queue.length = 0;
      await d.take(server.changed((cursor = (cursor % 200) + 1), ME, chats.filter((c) => server.chat(c).seats.has(ME))));
    }
    d.pass(100);
    if (random() < 0.1) d.retries.splice(0).forEach((run) => run());
  }

  for (const [i, d] of both.entries()) {
    (queues[i] as News[]).length = 0;
    d.retries.splice(0).forEach((run) => run());
    const end = async () => {
      const heads = chats.filter((c) => server.chat(c).seats.has(ME)).map((c) => [c, server.chat(c).head] as [bigint, number]);
      await d.take(server.heartbeat(250, heads, server.ownHead(ME)));
      await d.whole();
      d.retries.splice(0).forEach((run) => run());
      d.outbox.wake();
      await d.outbox.idle();
    };
    for (let round = 0; round < 20; round += 1) {
      await end();
      const waiting = (await d.store.unsent()).filter((u) => u.state !== 'failed');
      if (waiting.length === 0) break;
    }
  }
  for (const d of both) {
    const heads = chats.filter((c) => server.chat(c).seats.has(ME)).map((c) => [c, server.chat(c).head] as [bigint, number]);
    await d.take(server.heartbeat(251, heads, server.ownHead(ME)));
    await d.whole();
    await expectTrue(d, chats);
  }
}

async function expectTrue(d: Device, chats: bigint[]): Promise<void> {
  expect((await d.store.unsent()).filter((u) => u.state !== 'failed')).toEqual([]);
  for (const chat of chats) {
    const held = await d.chat(chat);
    if (!server.chat(chat).seats.has(ME)) {
      expect(held?.left).toBeDefined();
      continue;
    }
    const told = toChat(create(ChatSchema, server.told(chat, ME)));
    expect(held && hasHole(held)).toBe(false);
    expect(held).toMatchObject({ tip: told.head, unread: told.read.unread, title: told.title, memberCount: told.memberCount });
    for (const part of held?.parts ?? []) {
      if (part.trueAt < told.head) continue;
      const events = await d.store.events(id(chat), part.from, part.to);
      for (const event of events) expect(event).toEqual(toEvent(create(EventSchema, server.shown(chat, event.seq, ME))));
      expect(events).toHaveLength(part.to - part.from + 1);
    }
    const texts = server.chat(chat).log.flatMap((e) => (e.actor === ME && e.said && e.said.text.startsWith('mine') ? [e.said.clientMessageId] : []));
    expect(new Set(texts).size).toBe(texts.length);
  }
}
