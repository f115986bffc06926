// What one transaction works on: chats and their shelves are laid out when they are needed, and put away
// together at the end.

import { Dexie } from 'dexie';
import type { ChatId, UserId } from '../api/ids';
import type { Database } from './database';
import { needed, page, take, told, trimmed, type Chat, type Live, type PageRequest } from './log';
import type { Event, Receipt, ToldChat } from './model';
import { size } from './parts';
import { merged } from './receipts';
import { RECOUNT_EVENTS_MAX, type Shelf } from './unread';

/** Events that are kept of a chat, and how many there may be before it is cut down to that. */
export const KEPT_EVENTS = 2000;
export const KEPT_EVENTS_MAX = 3000;

/** The held events of a chat that a transaction needs. */
class HeldShelf implements Shelf {
  #db: Database;
  #id: ChatId;
  #laid = new Map<number, Event | undefined>();
  readonly changed = new Map<number, Event>();

  constructor(db: Database, id: ChatId) {
    this.#db = db;
    this.#id = id;
  }

  get(seq: number): Event | undefined {
    if (!this.#laid.has(seq)) throw new Error(`event ${seq} is not on the shelf`);
    return this.#laid.get(seq);
  }

  put(event: Event): void {
    if (this.#laid.get(event.seq) === event) return;
    this.#laid.set(event.seq, event);
    this.changed.set(event.seq, event);
  }

  async lay(seqs: Iterable<number>): Promise<void> {
    const missing = [...new Set(seqs)].filter((seq) => !this.#laid.has(seq));
    if (missing.length === 0) return;
    const events = await this.#db.events.bulkGet(missing.map((seq) => [this.#id, seq] as [ChatId, number]));
    missing.forEach((seq, i) => this.#laid.set(seq, events[i]));
  }
}

export class Desk {
  #db: Database;
  #me: UserId;
  #chats = new Map<ChatId, Chat | undefined>();
  #shelves = new Map<ChatId, HeldShelf>();
  readonly changed = new Set<ChatId>();

  constructor(db: Database, me: UserId) {
    this.#db = db;
    this.#me = me;
  }

  async chat(id: ChatId): Promise<Chat | undefined> {
    if (!this.#chats.has(id)) this.#chats.set(id, await this.#db.chats.get(id));
    return this.#chats.get(id);
  }

  put(chat: Chat): void {
    this.#chats.set(chat.id, chat);
    this.changed.add(chat.id);
  }

  /** The shelf of a chat with these events, and with those after `since`, when it is given, up to the tip. */
  async shelf(chat: Pick<Chat, 'id' | 'tip'>, seqs: Iterable<number>, since = chat.tip): Promise<Shelf> {
    const shelf = this.#shelves.get(chat.id) ?? new HeldShelf(this.#db, chat.id);
    this.#shelves.set(chat.id, shelf);
    await shelf.lay(seqs);
    if (chat.tip - since <= RECOUNT_EVENTS_MAX) await shelf.lay(span(since + 1, chat.tip));
    return shelf;
  }

  /** Events as they happen, of one chat and in their order. */
  async take(id: ChatId, news: readonly Live[]): Promise<void> {
    let chat = (await this.chat(id)) ?? unknownChat(id);
    if (chat.left) return;
    const shelf = await this.shelf(chat, needed(chat, news));
    for (const live of news) chat = take(chat, live, shelf, this.#me);
    this.put(chat);
    await this.heard(id, news.map(({ event }) => event));
  }

  async page(id: ChatId, request: PageRequest, events: readonly Event[], head: number): Promise<void> {
    const chat = await this.chat(id);
    if (!chat || chat.left) return;
    const lives = events.map((event) => ({ prev: 0, event }));
    const shelf = await this.shelf(chat, [...needed(chat, lives), ...events.map((event) => event.seq)]);
    this.put(page(chat, request, events, head, shelf, this.#me));
    await this.heard(id, events);
  }

  /** A chat as the server tells it. */
  async told(news: ToldChat): Promise<Chat> {
    const held = await this.chat(news.id);
    const shelf = await this.shelf(held ?? { id: news.id, tip: 0 }, needed(held, []), held && news.read.asOf);
    const chat = told(held, news, shelf, this.#me);
    this.put(chat);
    if ((!held || held.left || held.unknown) && news.draft) {
      await this.#db.drafts.add({ chatId: chat.id, ...news.draft, dirty: false }).catch(() => undefined);
    }
    return chat;
  }

  /** Receipts, merged by the maximum; says whether one moved. */
  async receipts(id: ChatId, news: ReadonlyMap<UserId, Receipt>): Promise<boolean> {
    const held = (await this.#db.receipts.get(id))?.receipts ?? new Map<UserId, Receipt>();
    const next = merged(held, news);
    if (next === held) return false;
    await this.#db.receipts.put({ chatId: id, receipts: new Map(next) });
    return true;
  }

  /** Who speaks has seen everything before. */
  async heard(id: ChatId, events: readonly Event[]): Promise<void> {
    const spoke = events.flatMap(({ message, actorId, seq }) => (message ? [[actorId, { delivered: seq, seen: seq }] as const] : []));
    if (spoke.length > 0) await this.receipts(id, merged(new Map(), new Map(spoke)));
  }

  /** Writes what has changed. Chats that are `open` are not cut. */
  async putAway(open: (id: ChatId) => boolean): Promise<void> {
    for (const [id, shelf] of this.#shelves) {
      if (shelf.changed.size > 0 && this.#chats.get(id)) await this.#db.events.bulkPut([...shelf.changed.values()]);
    }
    for (const id of this.changed) {
      let chat = this.#chats.get(id);
      if (!chat) continue;
      if (size(chat.parts) > KEPT_EVENTS_MAX && !open(id)) chat = await this.#cut(chat);
      await this.#db.chats.put(chat);
      await this.#forgetAcknowledged(chat);
    }
  }

  async #cut(chat: Chat): Promise<Chat> {
    const { chat: next, gone } = trimmed(chat, KEPT_EVENTS);
    for (const { from, to } of gone) {
      await this.#db.events.where('[chatId+seq]').between([chat.id, from], [chat.id, to], true, true).delete();
    }
    return next;
  }

  /** An acknowledged message leaves the outbox when its event can be read. */
  async #forgetAcknowledged(chat: Chat): Promise<void> {
    const sent = this.#db.outbox.where('[chatId+state]').equals([chat.id, 'sent']);
    await sent.filter((unsent) => (unsent.seq ?? 0) <= chat.tip).delete();
  }

  /** Takes everything of a chat away but its row. */
  async clear(id: ChatId): Promise<void> {
    this.#shelves.delete(id);
    await this.#db.events.where('[chatId+seq]').between([id, Dexie.minKey], [id, Dexie.maxKey]).delete();
    await Promise.all([this.#db.receipts.delete(id), this.#db.drafts.delete(id)]);
  }
}

function* span(from: number, to: number): Generator<number> {
  for (let seq = from; seq <= to; seq += 1) yield seq;
}

/** A chat of which only an event, or a head, is known. */
export function unknownChat(id: ChatId): Chat {
  const nothing = { kind: 0, memberIds: [], createdAtMs: 0, title: '', topic: '', avatar: '', ttlS: 0, pins: [], memberCount: 0, membersSeq: 0 };
  const read = { seen: 0, unread: 0, mentions: 0, asOf: 0 };
  const settings = { mutedUntilMs: 0, notify: 0, archived: false, favorite: false, markedUnread: false };
  return {
    ...nothing, id, read, settings, role: 0, joinedAtMs: 0, detailsAt: 0, head: 0, tip: 0, parts: [], aside: [], toHide: [],
    unread: 0, mentions: 0, readStale: false, toMark: 0, delivered: 0, activeAtMs: 0, unknown: 1,
  };
}
