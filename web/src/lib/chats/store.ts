// What is kept in the browser, one database for each user: chats, events, the cursor, and the outbox. The
// cursor is only ever written in the same transaction as what it covers.

import { Dexie, type Table } from 'dexie';
import { randomId, type ChatId, type MessageId, type UserId } from '../api/ids';
import { Changes } from '../tabs/changes';
import { deferred, fresh, lacks, withEvent, withLast, withOwn, withPage } from './held';
import type { Chat, Event, ToldChat, Unsent } from './model';
import { around } from './ranges';
import type { PageRequest } from './timeline';

/** What was stored. Empty sets are left out. */
export interface Change {
  chats?: ChatId[];
  outbox?: true;
  /** Everything may be different: the database was begun anew. */
  anew?: true;
}

/** An event of a chat as it happened. */
export interface LiveEvent {
  prev: number;
  event: Event;
}

/** An event of the user's own log; without a chat when this client does not know its kind. */
export interface OwnLogEvent {
  prev: number;
  seq: number;
  chat?: ToldChat;
}

/** An answer to "what did I miss", in our words. */
export type MissedAnswer =
  | { kind: 'delta'; own: OwnLogEvent[]; events: Event[] }
  | { kind: 'changed'; chats: ToldChat[]; ownHead: number }
  | { kind: 'reset'; chats: ToldChat[]; more: boolean; ownHead: number; epoch: string };

/** Where the logs end, by a heartbeat. */
export interface Heads {
  chats: ReadonlyMap<ChatId, number>;
  own: number;
}

/** What must be read before everything up to the heads is held. */
export interface Lacking {
  /** Chats with lost events, with how far each is whole. */
  chats: Array<{ id: ChatId; synced: number; head: number }>;
  /** Chats whose members are not known. */
  unknown: ChatId[];
  /** How far the own log is whole, when it has lost events. */
  own: number | undefined;
}

interface Own {
  synced: number;
  head: number;
}

class Database extends Dexie {
  declare chats: Table<Chat, ChatId>;
  declare events: Table<Event, [ChatId, number]>;
  declare outbox: Table<Unsent, number, Omit<Unsent, 'order'>>;
  declare meta: Table<{ key: string; value: unknown }, string>;

  constructor(name: string) {
    super(name);
    this.version(1).stores({
      chats: 'id, activeAtMs, unknown',
      events: '[chatId+seq]',
      outbox: '++order, &clientMessageId, chatId, state',
      meta: 'key',
    });
  }
}

/** A message of this size or smaller may be sent; the contract counts characters, not bytes. */
export const TEXT_CHARS_MAX = 8000;

export class ChatStore {
  readonly changes: Changes<Change>;
  #db: Database;
  #me: UserId;
  #deviceId: string;

  constructor(me: UserId, deviceId: string) {
    this.#me = me;
    this.#deviceId = deviceId;
    this.#db = new Database(`tertulia-chats-${me}`);
    this.changes = new Changes(`chats.${me}`);
  }

  close(): void {
    this.changes.close();
    this.#db.close();
  }

  /** Forgets everything, the outbox too. */
  async destroy(): Promise<void> {
    this.changes.close();
    await this.#db.delete();
  }

  // Reading

  async cursor(): Promise<Uint8Array> {
    return (await this.#meta<Uint8Array>('cursor')) ?? new Uint8Array();
  }

  /** Newest first. */
  async chats(): Promise<Chat[]> {
    return (await this.#db.chats.orderBy('activeAtMs').reverse().toArray()).filter((chat) => !chat.unknown);
  }

  chat(id: ChatId): Promise<Chat | undefined> {
    return this.#db.chats.get(id);
  }

  /** A page out of what is held; undefined when it must be read from the server. */
  async page(id: ChatId, request: PageRequest): Promise<{ events: Event[]; head: number } | undefined> {
    const chat = await this.#db.chats.get(id);
    if (!chat) return undefined;
    const { head } = chat;
    let from: number;
    let to: number;
    if (request.kind === 'before') {
      const held = around(chat.ranges, request.seq - 1);
      if (!held) return undefined;
      [from, to] = [Math.max(held[0], request.seq - request.limit), request.seq - 1];
    } else {
      const held = around(chat.ranges, request.seq + 1);
      if (!held) return undefined;
      [from, to] = [request.seq + 1, Math.min(held[1], request.seq + request.limit)];
    }
    const events = await this.#db.events.where('[chatId+seq]').between([id, from], [id, to], true, true).toArray();
    return events.length > 0 ? { events, head } : undefined;
  }

  /** The held events after a seq, holes or not. */
  eventsAfter(id: ChatId, seq: number, limit: number): Promise<Event[]> {
    const range = this.#db.events.where('[chatId+seq]').between([id, seq + 1], [id, Dexie.maxKey], true, true);
    return range.limit(limit).toArray();
  }

  unsentOf(id: ChatId): Promise<Unsent[]> {
    return this.#db.outbox.where('chatId').equals(id).sortBy('order');
  }

  /** Every unsent message, in the order in which they were written. */
  unsent(): Promise<Unsent[]> {
    return this.#db.outbox.orderBy('order').toArray();
  }

  /** The page token at which reading the list of chats goes on; undefined when all are here. */
  listToken(): Promise<string | undefined> {
    return this.#meta<string>('listToken');
  }

  /** What was lost on the way, as far as the heads are known. */
  async lacking(): Promise<Lacking> {
    const [chats, own] = await Promise.all([this.#db.chats.toArray(), this.#own()]);
    return {
      chats: chats.filter(lacks).map(({ id, synced, head }) => ({ id, synced, head })),
      unknown: chats.filter((chat) => chat.unknown).map((chat) => chat.id),
      own: own.synced < own.head ? own.synced : undefined,
    };
  }

  // What the server tells

  /** Stores an answer together with the cursor that covers it. */
  async putMissed(answer: MissedAnswer, cursor: Uint8Array): Promise<void> {
    const change: Change = {};
    await this.#write(async () => {
      if (answer.kind === 'delta') {
        await this.#putOwn(answer.own);
        await this.#putLive(answer.events.map((event) => ({ prev: event.seq - 1, event })));
        change.chats = [...new Set([...answer.own.flatMap((o) => o.chat?.id ?? []), ...answer.events.map((e) => e.chatId)])];
        change.outbox = true;
      } else if (answer.kind === 'changed') {
        await this.#putMoved(answer.chats);
        const own = await this.#own();
        await this.#setMeta('own', { ...own, head: Math.max(own.head, answer.ownHead) });
        change.chats = answer.chats.map((chat) => chat.id);
      } else {
        await this.#putReset(answer);
        change.anew = true;
      }
      await this.#setMeta('cursor', cursor);
    });
    this.changes.publish(change);
  }

  /** Stores what happened; says whether something before it was lost. */
  async putLive(own: OwnLogEvent[], events: LiveEvent[]): Promise<boolean> {
    const { sent, lost } = await this.#write(async () => {
      await this.#putOwn(own);
      const sent = await this.#putLive(events);
      const rows = await this.#db.chats.bulkGet([...new Set(events.map((e) => e.event.chatId))]);
      const { synced, head } = await this.#own();
      return { sent, lost: synced < head || rows.some((chat) => !chat || chat.unknown || lacks(chat)) };
    });
    const chats = [...new Set([...own.flatMap((o) => o.chat?.id ?? []), ...events.map((e) => e.event.chatId)])];
    this.changes.publish({ chats, ...(sent && { outbox: true as const }) });
    return lost;
  }

  /** Stores a page of a chat's log. */
  async putPage(id: ChatId, request: PageRequest, events: Event[], head: number): Promise<void> {
    const sent = await this.#write(async () => {
      const chat = (await this.#db.chats.get(id)) ?? unknownChat(id);
      const last = events.at(-1);
      await this.#db.events.bulkPut(events);
      const paged = withPage(chat, request, events, head);
      await this.#db.chats.put(last ? withLast(paged, last) : paged);
      return await this.#forgetSent(events);
    });
    this.changes.publish({ chats: [id], ...(sent && { outbox: true as const }) });
  }

  /** Leaves what is between what is held and the head to be read when somebody looks. */
  async defer(id: ChatId, head: number): Promise<void> {
    await this.#write(async () => {
      const chat = await this.#db.chats.get(id);
      if (chat) await this.#db.chats.put(deferred(chat, head));
    });
  }

  /** Stores a page of the own log; `whole` says that it ends at the head. */
  async putOwnPage(events: OwnLogEvent[], head: number, whole: boolean): Promise<void> {
    await this.#write(async () => {
      await this.#putOwn(events);
      const own = await this.#own();
      const synced = whole ? Math.max(own.synced, head) : own.synced;
      await this.#setMeta('own', { synced, head: whole ? synced : Math.max(own.head, head) });
    });
    this.changes.publish({ chats: events.flatMap((e) => e.chat?.id ?? []) });
  }

  /** Stores chats that were asked for; `listToken` is where the list goes on, null when it is all here. */
  async putChats(chats: ToldChat[], listToken?: string | null): Promise<void> {
    await this.#write(async () => {
      for (const chat of chats) {
        const known = await this.#db.chats.get(chat.id);
        await this.#putJoined(chat);
        // The list reaches into the past, which is not news.
        if (!known && listToken !== undefined) await this.#db.chats.update(chat.id, { seen: chat.head });
      }
      if (listToken === null) await this.#db.meta.delete('listToken');
      else if (listToken !== undefined) await this.#setMeta('listToken', listToken);
    });
    this.changes.publish({ chats: chats.map((chat) => chat.id) });
  }

  /** Takes away a chat that turned out not to be there. */
  async forget(id: ChatId): Promise<void> {
    await this.#write(async () => {
      await this.#db.chats.delete(id);
      await this.#db.events.where('[chatId+seq]').between([id, Dexie.minKey], [id, Dexie.maxKey]).delete();
    });
    this.changes.publish({ chats: [id] });
  }

  /** Takes note of heads; chats that were not known yet become unknown chats. */
  async noteHeads(heads: Heads): Promise<void> {
    await this.#write(async () => {
      for (const [id, head] of heads.chats) {
        const chat = (await this.#db.chats.get(id)) ?? unknownChat(id);
        if (chat.unknown || head > chat.head) await this.#db.chats.put({ ...chat, head: Math.max(chat.head, head) });
      }
      const own = await this.#own();
      if (heads.own > own.head) await this.#setMeta('own', { ...own, head: heads.own });
    });
  }

  /** Stores a heartbeat's cursor when everything up to its heads is held, else not; says which. */
  async adopt(cursor: Uint8Array, heads: Heads): Promise<boolean> {
    return await this.#write(async () => {
      const own = await this.#own();
      if (own.synced < heads.own) return false;
      const rows = await this.#db.chats.bulkGet([...heads.chats.keys()]);
      const wanted = [...heads.chats.values()];
      const whole = rows.every((chat, i) => chat !== undefined && chat.synced >= (wanted[i] ?? Infinity));
      if (whole) await this.#setMeta('cursor', cursor);
      return whole;
    });
  }

  // What the person does

  /** Puts a message into the outbox; it is on disk when this is done. */
  async enqueue(id: ChatId, text: string, atMs: number): Promise<void> {
    await this.#write(async () => {
      await this.#db.outbox.add({ clientMessageId: randomId(), chatId: id, text, atMs, state: 'waiting' });
      await this.#db.chats.update(id, { activeAtMs: atMs });
    });
    this.changes.publish({ chats: [id], outbox: true });
  }

  /** The server has the message: it leaves the outbox and joins the log. */
  async acknowledged(unsent: Unsent, ack: { seq: number; messageId: MessageId; atMs: number }): Promise<void> {
    const event: Event = {
      chatId: unsent.chatId,
      seq: ack.seq,
      atMs: ack.atMs,
      actorId: this.#me,
      message: {
        messageId: ack.messageId,
        text: unsent.text,
        clientMessageId: unsent.clientMessageId,
        deviceId: this.#deviceId,
      },
    };
    await this.#write(async () => {
      await this.#db.outbox.where('clientMessageId').equals(unsent.clientMessageId).delete();
      const chat = (await this.#db.chats.get(unsent.chatId)) ?? unknownChat(unsent.chatId);
      await this.#db.events.put(event);
      const next = withLast(withOwn(chat, ack.seq), event);
      await this.#db.chats.put({ ...next, seen: Math.max(next.seen, ack.seq) });
    });
    this.changes.publish({ chats: [unsent.chatId], outbox: true });
  }

  /** The server will never take the message as it is. */
  async refused(unsent: Unsent, reason: number): Promise<void> {
    await this.#db.outbox.where('clientMessageId').equals(unsent.clientMessageId).modify({ state: 'failed', reason });
    this.changes.publish({ chats: [unsent.chatId], outbox: true });
  }

  /** Sends a refused message again: the same one, unless its id itself was refused. */
  async retry(clientMessageId: string, newId: boolean): Promise<void> {
    await this.#db.outbox.where('clientMessageId').equals(clientMessageId).modify((unsent) => {
      unsent.state = 'waiting';
      delete unsent.reason;
      if (newId) unsent.clientMessageId = randomId();
    });
    this.changes.publish({ outbox: true });
  }

  /** Takes a refused message out of the outbox. */
  async discard(clientMessageId: string): Promise<void> {
    await this.#db.outbox.where('clientMessageId').equals(clientMessageId).delete();
    this.changes.publish({ outbox: true });
  }

  /** The person has read this far. */
  async see(id: ChatId, seq: number): Promise<void> {
    const moved = await this.#write(async () => {
      const chat = await this.#db.chats.get(id);
      if (!chat || chat.seen >= seq) return false;
      await this.#db.chats.update(id, { seen: seq });
      return true;
    });
    if (moved) this.changes.publish({ chats: [id] });
  }

  // Inside a transaction

  #write<T>(work: () => Promise<T>): Promise<T> {
    const { chats, events, outbox, meta } = this.#db;
    return this.#db.transaction('rw', [chats, events, outbox, meta], work);
  }

  async #putLive(news: LiveEvent[]): Promise<boolean> {
    if (news.length === 0) return false;
    const rows = new Map<ChatId, Chat>();
    for (const chat of await this.#db.chats.bulkGet([...new Set(news.map((n) => n.event.chatId))])) {
      if (chat) rows.set(chat.id, chat);
    }
    for (const { prev, event } of news) {
      const chat = rows.get(event.chatId) ?? unknownChat(event.chatId);
      const next = withLast(withEvent(chat, prev, event.seq), event);
      // Who writes has read what is before, on whatever device.
      if (event.actorId === this.#me) next.seen = Math.max(next.seen, event.seq);
      rows.set(event.chatId, next);
    }
    await this.#db.events.bulkPut(news.map((n) => n.event));
    await this.#db.chats.bulkPut([...rows.values()]);
    return await this.#forgetSent(news.map((n) => n.event));
  }

  /** An own message that comes back as an event needs no acknowledgement. */
  async #forgetSent(events: Event[]): Promise<boolean> {
    const ids = events.flatMap((e) => (e.message?.deviceId === this.#deviceId ? [e.message.clientMessageId] : []));
    if (ids.length === 0) return false;
    return (await this.#db.outbox.where('clientMessageId').anyOf(ids).delete()) > 0;
  }

  async #putOwn(news: OwnLogEvent[]): Promise<void> {
    if (news.length === 0) return;
    const own = await this.#own();
    for (const { prev, seq, chat } of news) {
      if (chat) await this.#putJoined(chat);
      own.head = Math.max(own.head, seq);
      if (prev <= own.synced) own.synced = Math.max(own.synced, seq);
    }
    await this.#setMeta('own', own);
  }

  /** A chat as it was at some moment: its members are news, its head only when it was unknown here. */
  async #putJoined(told: ToldChat): Promise<void> {
    const chat = await this.#db.chats.get(told.id);
    if (!chat) return void (await this.#db.chats.put(fresh(told)));
    const { memberIds, createdAtMs } = told;
    const activeAtMs = Math.max(chat.activeAtMs, told.last?.atMs ?? createdAtMs);
    const next: Chat = { ...chat, memberIds, createdAtMs, activeAtMs, unknown: 0, head: Math.max(chat.head, told.head) };
    await this.#db.chats.put(told.last ? withLast(next, told.last) : next);
  }

  /** Chats that moved while nobody listened: their events are read when somebody looks. */
  async #putMoved(chats: ToldChat[]): Promise<void> {
    for (const told of chats) {
      await this.#putJoined(told);
      const chat = await this.#db.chats.get(told.id);
      if (chat) await this.#db.chats.put(deferred(chat, told.head));
    }
  }

  async #putReset(reset: Extract<MissedAnswer, { kind: 'reset' }>): Promise<void> {
    const epoch = await this.#meta<string>('epoch');
    const firstTime = epoch === undefined;
    if (epoch !== reset.epoch) {
      await this.#db.events.clear();
      await this.#forgetHistory();
    }
    await this.#putMoved(reset.chats);
    if (firstTime) {
      // What was there before this browser came is not news.
      await this.#db.chats.toCollection().modify((chat) => {
        chat.seen = chat.head;
      });
    }
    await this.#setMeta('epoch', reset.epoch);
    await this.#setMeta('own', { synced: reset.ownHead, head: reset.ownHead });
    if (reset.more) await this.#setMeta('listToken', '');
    else await this.#db.meta.delete('listToken');
  }

  /** Chats of another epoch go; one with unsent messages stays without its past, so that they can be seen. */
  async #forgetHistory(): Promise<void> {
    const waiting = new Set((await this.#db.outbox.toArray()).map((unsent) => unsent.chatId));
    await this.#db.chats.filter((chat) => !waiting.has(chat.id)).delete();
    await this.#db.chats.toCollection().modify((chat) => {
      Object.assign(chat, { head: 0, synced: 0, ranges: [], seen: 0 });
      delete chat.last;
    });
  }

  async #own(): Promise<Own> {
    return { synced: 0, head: 0, ...(await this.#meta<Own>('own')) };
  }

  async #meta<T>(key: string): Promise<T | undefined> {
    return (await this.#db.meta.get(key))?.value as T | undefined;
  }

  #setMeta(key: string, value: unknown): Promise<unknown> {
    return this.#db.meta.put({ key, value });
  }
}

function unknownChat(id: ChatId): Chat {
  const told = { id, memberIds: [], createdAtMs: 0, head: 0 };
  return { ...fresh(told), unknown: 1 };
}
