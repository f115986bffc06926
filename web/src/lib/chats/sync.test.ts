import 'fake-indexeddb/auto';
import { beforeEach, describe, expect, it } from 'vitest';
import { CallFailed } from '../api/failure';
import { randomId, type ChatId, type UserId } from '../api/ids';
import { Conversation } from './conversation.svelte';
import { FakeServer } from './fake';
import { Outbox } from './outbox';
import { ChatStore } from './store';
import { Sync } from './sync';

const me = 1n;
const ana = 2n;
const lost = () => new CallFailed('no_connection', 'lost');
const refusal = (reason: number) => new CallFailed('invalid_argument', 'no', reason);
const id = (chat: bigint) => chat.toString() as ChatId;

let server: FakeServer;
let store: ChatStore;
let sync: Sync;
let outbox: Outbox;
let online: boolean;
let retries: Array<() => void>;
let user: UserId;

beforeEach(() => {
  server = new FakeServer();
  server.open(10n, [me, ana]);
  // A database of its own for each test.
  user = `1-${randomId()}` as UserId;
  online = true;
  retries = [];
  begin();
});

/** As after opening the page: the same database, everything else anew. */
function begin(): void {
  store = new ChatStore(user, 'here');
  const onTrouble = (trouble: unknown) => {
    throw trouble;
  };
  sync = new Sync({ store, carrier: server, catchUp: () => undefined, onTrouble });
  outbox = new Outbox({
    store,
    carrier: server,
    online: () => online,
    alone: (work) => work(),
    onTrouble,
    random: () => 0.5,
    setTimeout: (run) => retries.push(run),
  });
}

const reset = (cursor: number, epoch = 'one') =>
  server.missed(cursor, {
    case: 'reset',
    value: { chats: [...server.logs.keys()].map((c) => server.chat(c)), ownHead: BigInt(server.logs.size), epoch },
  });

/** Until a claim holds; the claims here are about what stores and calls will have done. */
async function until(claim: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 2000; i += 1) {
    if (await claim()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('it did not come true');
}

const cursor = async () => (await store.cursor())[0];
const texts = async (chat: bigint) => (await store.eventsAfter(id(chat), 0, 1000)).map((e) => e.message?.text);

describe('sync', () => {
  it('stores the first answer with its cursor, and counts nothing of it as new', async () => {
    server.say(10n, ana, 'old');
    sync.take(reset(1));
    await sync.idle();
    const [chat] = await store.chats();
    expect(chat).toMatchObject({ id: '10', head: 1, seen: 1, last: { message: { text: 'old' } } });
    expect(await cursor()).toBe(1);
  });

  it('adopts the cursor of a heartbeat when everything up to its heads is held', async () => {
    sync.take(reset(1));
    sync.take(server.live(server.say(10n, ana, 'a')));
    sync.take(server.heartbeat(2, [[10n, 1]], 1));
    await sync.idle();
    expect(await cursor()).toBe(2);
    expect(server.calls).toEqual([]);
  });

  it('does not adopt a cursor that covers a lost event until it has read the event', async () => {
    sync.take(reset(1));
    await sync.idle();
    server.say(10n, ana, 'a');
    server.failures.push({ method: 'ListEvents', failure: lost() });
    sync.take(server.heartbeat(2, [[10n, 1]], 1));
    await sync.idle();
    await until(() => server.calls.length === 1);
    expect(await cursor()).toBe(1);
    sync.take(server.heartbeat(3, [], 1));
    await until(async () => (await cursor()) === 3);
    expect(await texts(10n)).toEqual(['a']);
  });

  it('does not adopt a heartbeat without a cursor', async () => {
    sync.take(reset(1));
    sync.take(server.heartbeat(0, []));
    await sync.idle();
    expect(await cursor()).toBe(1);
  });

  it('reads what was lost between two events', async () => {
    sync.take(reset(1));
    sync.take(server.live(server.say(10n, ana, 'a')));
    server.say(10n, ana, 'b');
    sync.take(server.live(server.say(10n, ana, 'c')));
    await until(async () => (await texts(10n)).length === 3);
    expect(await texts(10n)).toEqual(['a', 'b', 'c']);
    expect((await store.lacking()).chats).toEqual([]);
  });

  it('learns of a chat whose beginning it missed', async () => {
    sync.take(reset(1));
    await sync.idle();
    server.open(11n, [me, ana]);
    sync.take(server.live(server.say(11n, ana, 'hello')));
    await until(async () => (await store.chats()).some((chat) => chat.id === '11'));
    expect(await store.chat(id(11n))).toMatchObject({ unknown: 0, memberIds: ['1', '2'], seen: 0 });
  });

  it('reads the own log when a heartbeat shows that it moved', async () => {
    sync.take(reset(1));
    await sync.idle();
    server.open(11n, [me, ana]);
    sync.take(server.heartbeat(2, [], 2));
    await until(async () => (await cursor()) === 2);
    expect(await store.chat(id(11n))).toMatchObject({ unknown: 0 });
  });

  it('leaves the past of a chat that moved far to be read later', async () => {
    sync.take(reset(1));
    await sync.idle();
    for (let i = 0; i < 3000; i += 1) server.say(10n, ana, `m${i}`);
    sync.take(server.missed(2, { case: 'changed', value: { chats: [server.chat(10n)], ownHead: 1n } }));
    await sync.idle();
    expect(await store.chat(id(10n))).toMatchObject({ head: 3000, synced: 3000, ranges: [] });
    expect(server.calls).toEqual([]);
  });

  it('drops what another epoch held and keeps unsent messages', async () => {
    sync.take(reset(1));
    sync.take(server.live(server.say(10n, ana, 'a')));
    await sync.idle();
    await store.enqueue(id(10n), 'mine', 5);
    server.logs.set(10n, []);
    sync.take(reset(2, 'two'));
    await sync.idle();
    expect(await texts(10n)).toEqual([]);
    expect(await store.unsent()).toMatchObject([{ text: 'mine', state: 'waiting' }]);
  });

  it('keeps what it holds when only the cursor was not understood', async () => {
    sync.take(reset(1));
    sync.take(server.live(server.say(10n, ana, 'a')));
    await sync.idle();
    sync.take(reset(2));
    await sync.idle();
    expect(await texts(10n)).toEqual(['a']);
    expect(await store.chat(id(10n))).toMatchObject({ ranges: [[1, 1]] });
  });

  it('goes on after a reload from the stored cursor', async () => {
    sync.take(reset(1));
    await sync.idle();
    store.close();
    begin();
    expect(await cursor()).toBe(1);
    const event = server.say(10n, ana, 'a');
    sync.take(server.missed(2, { case: 'delta', value: { events: [event] } }));
    await sync.idle();
    expect(await texts(10n)).toEqual(['a']);
    expect(await cursor()).toBe(2);
  });
});

describe('outbox', () => {
  beforeEach(async () => {
    sync.take(reset(1));
    await sync.idle();
  });

  it('sends the messages of a chat in their order', async () => {
    for (const text of ['a', 'b', 'c']) await store.enqueue(id(10n), text, 1);
    outbox.wake();
    await outbox.idle();
    expect(await store.unsent()).toEqual([]);
    expect(await texts(10n)).toEqual(['a', 'b', 'c']);
  });

  it('sends a message once although the answer was lost', async () => {
    await store.enqueue(id(10n), 'a', 1);
    server.failures.push({ method: 'SendMessage', failure: lost(), after: true });
    outbox.wake();
    await outbox.idle();
    expect(await store.unsent()).toHaveLength(1);
    retries.shift()?.();
    await outbox.idle();
    expect(await store.unsent()).toEqual([]);
    expect(server.log(10n)).toHaveLength(1);
  });

  it('survives a reload', async () => {
    online = false;
    await store.enqueue(id(10n), 'a', 1);
    outbox.wake();
    await outbox.idle();
    store.close();
    begin();
    online = true;
    outbox.wake();
    await outbox.idle();
    expect(await texts(10n)).toEqual(['a']);
  });

  it('does not let a later message overtake one that must be tried again', async () => {
    await store.enqueue(id(10n), 'a', 1);
    await store.enqueue(id(10n), 'b', 1);
    server.failures.push({ method: 'SendMessage', failure: lost() });
    outbox.wake();
    await outbox.idle();
    expect(server.log(10n)).toEqual([]);
    retries.shift()?.();
    await outbox.idle();
    expect(await texts(10n)).toEqual(['a', 'b']);
  });

  it('keeps a refused message with its reason, sends the others, and sends it when asked to', async () => {
    await store.enqueue(id(10n), 'a', 1);
    await store.enqueue(id(10n), 'b', 1);
    server.failures.push({ method: 'SendMessage', failure: refusal(3) });
    outbox.wake();
    await outbox.idle();
    const [failed] = await store.unsent();
    expect(failed).toMatchObject({ text: 'a', state: 'failed', reason: 3 });
    expect(await texts(10n)).toEqual(['b']);
    await store.retry(failed?.clientMessageId ?? '', false);
    outbox.wake();
    await outbox.idle();
    expect(await texts(10n)).toEqual(['b', 'a']);
  });

  it('forgets a refused message when asked to', async () => {
    await store.enqueue(id(10n), 'a', 1);
    server.failures.push({ method: 'SendMessage', failure: refusal(3) });
    outbox.wake();
    await outbox.idle();
    const [failed] = await store.unsent();
    await store.discard(failed?.clientMessageId ?? '');
    expect(await store.unsent()).toEqual([]);
  });

  it('takes the event of an own message for its acknowledgement', async () => {
    online = false;
    await store.enqueue(id(10n), 'a', 1);
    const [unsent] = await store.unsent();
    sync.take(server.live(server.say(10n, me, 'a', unsent?.clientMessageId, 'here')));
    await sync.idle();
    expect(await store.unsent()).toEqual([]);
    expect(await texts(10n)).toEqual(['a']);
  });
});

describe('conversation', () => {
  it('shows a message from writing to its place in the log under one key', async () => {
    sync.take(reset(1));
    await sync.idle();
    const conversation = new Conversation({
      store,
      carrier: server,
      chatId: id(10n),
      me: { userId: user, deviceId: 'here' },
      onHeard: () => undefined,
      onTrouble: (trouble) => {
        throw trouble;
      },
    });
    await until(() => conversation.loaded);
    await conversation.send('mine');
    await until(() => conversation.items[0]?.state === 'sending');
    const key = conversation.items[0]?.key;
    outbox.wake();
    await until(() => conversation.items[0]?.state === 'stored');
    expect(conversation.items).toMatchObject([{ key, seq: 1, text: 'mine', own: true }]);
    conversation.stop();
  });

  it('reads the newest page of a chat that moved, then the past from where it is held', async () => {
    for (let i = 1; i <= 100; i += 1) server.say(10n, ana, `m${i}`);
    sync.take(reset(1));
    await sync.idle();
    const heard: string[] = [];
    const conversation = new Conversation({
      store,
      carrier: server,
      chatId: id(10n),
      me: { userId: user, deviceId: 'here' },
      onHeard: (items) => heard.push(...items.map((i) => i.text)),
      onTrouble: (trouble) => {
        throw trouble;
      },
    });
    await until(() => conversation.loaded);
    expect(conversation.items.map((i) => i.seq)).toEqual(Array.from({ length: 60 }, (_, i) => i + 41));
    await conversation.loadOlder();
    expect(conversation.prepended).toBe(true);
    expect(conversation.items).toHaveLength(100);
    expect(conversation.atStart).toBe(true);
    sync.take(server.live(server.say(10n, ana, 'new')));
    await until(() => conversation.items.length === 101);
    expect(heard).toEqual(['new']);
    conversation.stop();
  });
});
