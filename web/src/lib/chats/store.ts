// What is kept in the browser: chats, events, the own log's word, the cursor, and the outbox. The cursor is
// only ever written in the same transaction as what it covers, or after it.

import { Dexie } from 'dexie';
import { NOBODY, randomId, type ChatId, type UserId } from '../api/ids';
import { Changes } from '../tabs/changes';
import { Database, type HeldDraft } from './database';
import { Desk, unknownChat } from './desk';
import { changes, hasHole, healed, hide, jump, needed, noteHead, shouldJump, type ChangesPage, type Chat, type Live, type PageRequest } from './log';
import { LeftReason, type Event, type Mentions, type OwnAct, type ReadBase, type Receipt, type Scheduled, type Settings, type ToldChat, type Unsent } from './model';
import { around, type Part } from './parts';
import type { Receipts } from './receipts';
import { newer, rebased, seenUpTo } from './unread';

/** What was stored. Empty sets are left out. */
export interface Change {
  chats?: ChatId[];
  outbox?: true;
  drafts?: ChatId[];
  scheduled?: true;
  /** Everything may be different: the database was begun anew. */
  anew?: true;
}

/** An event of the user's own log; without an act when this client does not know its kind. */
export interface OwnEvent {
  prev: number;
  seq: number;
  act?: OwnAct;
}

/** An answer to "what did I miss", in our words. */
export type MissedAnswer =
  | { kind: 'delta'; own: OwnEvent[]; events: Event[] }
  | { kind: 'changed'; chats: ToldChat[]; ownHead: number }
  | { kind: 'reset'; chats: ToldChat[]; more: boolean; ownHead: number; epoch: string };

/** Where the logs end. */
export interface Heads {
  chats: ReadonlyMap<ChatId, number>;
  own: number;
}

/** The receipts of a chat that have moved. */
export interface MovedReceipts {
  chatId: ChatId;
  receipts: ReadonlyMap<UserId, Receipt>;
}

/** What must be read before everything up to the heads is held. */
export interface Lacking {
  /** Chats with a hole, from the tip on. */
  holes: Array<{ id: ChatId; tip: number; head: number }>;
  /** Chats that must be asked for: what they are, or how much is unread, or a hole that is given up. */
  ask: ChatId[];
  /** How far the own log is held, when it is not whole. */
  own: number | undefined;
}

/** What the person wrote. */
export interface Writing {
  text: string;
  replyTo?: number;
  threadSeq?: number;
  mentions?: Mentions;
}

interface Own {
  synced: number;
  head: number;
  aside: OwnEvent[];
}

/** Own events that are kept beyond a hole. */
const OWN_ASIDE_MAX = 200;
/** A message of this size or smaller may be sent; the contract counts characters, not bytes. */
export const TEXT_CHARS_MAX = 8000;

export class ChatStore {
  readonly changes: Changes<Change>;
  #db: Database;
  #me: UserId;
  #deviceId: string;
  #open = new Map<ChatId, number>();

  /** `name` tells databases apart; each user has one. */
  constructor(me: UserId, deviceId: string, name: string = me) {
    this.#me = me;
    this.#deviceId = deviceId;
    this.#db = new Database(`tertulia-chats-${name}`);
    this.changes = new Changes(`chats.${name}`);
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

  /** Keeps the events of a chat that is shown; gives what ends that. */
  keep(id: ChatId): () => void {
    this.#open.set(id, (this.#open.get(id) ?? 0) + 1);
    return () => this.#open.set(id, (this.#open.get(id) ?? 1) - 1);
  }

  // Reading

  async cursor(): Promise<Uint8Array> {
    return (await this.#meta<Uint8Array>('cursor')) ?? new Uint8Array();
  }

  /** The chats that the person is in, the one with the newest message first. */
  async chats(): Promise<Chat[]> {
    return (await this.#db.chats.orderBy('activeAtMs').reverse().toArray()).filter((chat) => !chat.unknown && !chat.left);
  }

  chat(id: ChatId): Promise<Chat | undefined> {
    return this.#db.chats.get(id);
  }

  /** The held events of a range, in their order. */
  events(id: ChatId, from: number, to: number): Promise<Event[]> {
    return this.#db.events.where('[chatId+seq]').between([id, from], [id, to], true, true).toArray();
  }

  /** The held events of a range that is true at `head`, or later; undefined when not all of it is. */
  async trueAt(id: ChatId, from: number, to: number, head: number): Promise<Event[] | undefined> {
    return await this.#db.transaction('r', this.#db.chats, this.#db.events, async () => {
      const chat = await this.chat(id);
      const part = chat && !chat.left ? around(chat.parts, from) : undefined;
      return part && part.to >= to && part.trueAt >= head ? await this.events(id, from, to) : undefined;
    });
  }

  async unsentOf(id: ChatId): Promise<Unsent[]> {
    return await this.#db.outbox.where('chatId').equals(id).sortBy('order');
  }

  /** The next message of a chat that is to be sent. */
  nextUnsent(id: ChatId): Promise<Unsent | undefined> {
    // Within an index Dexie goes by the primary key, which is the order of writing.
    return this.#db.outbox.where('[chatId+state]').equals([id, 'waiting']).first();
  }

  /** Everything in the outbox, in the order in which it was written. */
  unsent(): Promise<Unsent[]> {
    return this.#db.outbox.orderBy('order').toArray();
  }

  async receiptsOf(id: ChatId): Promise<Receipts> {
    return (await this.#db.receipts.get(id))?.receipts ?? new Map<UserId, Receipt>();
  }

  draft(id: ChatId): Promise<HeldDraft | undefined> {
    return this.#db.drafts.get(id);
  }

  drafts(): Promise<HeldDraft[]> {
    return this.#db.drafts.toArray();
  }

  /** The next one first. */
  scheduled(): Promise<Scheduled[]> {
    return this.#db.scheduled.orderBy('sendAtMs').toArray();
  }

  /** The page token at which reading the list of chats goes on; undefined when all are here. */
  listToken(): Promise<string | undefined> {
    return this.#meta<string>('listToken');
  }

  /** The scheduled messages are not known yet. */
  async lacksScheduled(): Promise<boolean> {
    return (await this.#meta<boolean>('scheduledHeld')) !== true;
  }

  async lacking(): Promise<Lacking> {
    const [chats, own] = await Promise.all([this.#db.chats.toArray(), this.#own()]);
    const there = chats.filter((chat) => !chat.left);
    const asks = (chat: Chat) => chat.unknown === 1 || chat.readStale || shouldJump(chat);
    return {
      holes: there.filter((chat) => hasHole(chat) && !asks(chat)).map(({ id, tip, head }) => ({ id, tip, head })),
      ask: there.filter(asks).map((chat) => chat.id),
      own: own.synced < own.head ? own.synced : undefined,
    };
  }

  // What the server tells

  /** Stores an answer, and its cursor when everything that it covers is held then; says whether it is. */
  async putMissed(answer: MissedAnswer, heads: Heads, cursor: Uint8Array): Promise<boolean> {
    const change: Change = { outbox: true };
    const whole = await this.#write(async (desk) => {
      if (answer.kind === 'delta') {
        await this.#takeOwn(desk, answer.own, change);
        for (const [id, events] of grouped(answer.events, (event) => event.chatId)) {
          await desk.take(id, events.map((event) => ({ prev: event.seq - 1, event })));
        }
        await this.#forgetSent(answer.events);
      } else {
        if (answer.kind === 'reset') await this.#beginEpoch(answer, change);
        for (const chat of answer.chats) await this.#moved(desk, chat);
        await this.#noteOwnHead(answer.ownHead);
      }
      change.chats = [...desk.changed];
      return await this.#adopt(desk, heads, cursor);
    });
    this.changes.publish(change);
    return whole;
  }

  /** Stores what happened; says whether something before it is missing. */
  async putLive(own: OwnEvent[], events: Live[]): Promise<boolean> {
    const change: Change = {};
    const lost = await this.#write(async (desk) => {
      await this.#takeOwn(desk, own, change);
      const chats = grouped(events, (live) => live.event.chatId);
      for (const [id, news] of chats) await desk.take(id, news);
      if (await this.#forgetSent(events.map(({ event }) => event))) change.outbox = true;
      change.chats = [...desk.changed];
      const rows = await Promise.all([...desk.changed].map((id) => desk.chat(id)));
      const { synced, head } = await this.#own();
      return synced < head || rows.some((chat) => chat && (chat.unknown === 1 || chat.readStale || hasHole(chat)));
    });
    this.changes.publish(change);
    return lost;
  }

  /** Stores a page of a chat's log. */
  async putPage(id: ChatId, request: PageRequest, events: Event[], head: number): Promise<void> {
    const change: Change = { chats: [id] };
    await this.#write(async (desk) => {
      await desk.page(id, request, events, head);
      if (await this.#forgetSent(events)) change.outbox = true;
    });
    this.changes.publish(change);
  }

  /** Stores what became of the messages of a part. */
  async putChanges(id: ChatId, part: Part, page: ChangesPage): Promise<void> {
    await this.#write(async (desk) => {
      const chat = await desk.chat(id);
      if (!chat || chat.left) return;
      const shelf = await desk.shelf(chat, page.events.map((event) => event.seq));
      desk.put(changes(chat, part, page, shelf, this.#me));
    });
    this.changes.publish({ chats: [id] });
  }

  /** Puts a part that was read anew in the place of what is held of it; false when it would be older. */
  async heal(id: ChatId, range: { from: number; to: number }, events: Event[], head: number): Promise<boolean> {
    const done = await this.#write(async (desk) => {
      const chat = await desk.chat(id);
      if (!chat || chat.left) return false;
      const next = healed(chat, range, events, head, await desk.shelf(chat, events.map((event) => event.seq)));
      if (next) desk.put(next);
      return next !== undefined;
    });
    if (done) this.changes.publish({ chats: [id] });
    return done;
  }

  /** Stores a page of the own log; `whole` says that it ends at the head. */
  async putOwnPage(events: OwnEvent[], head: number, whole: boolean): Promise<void> {
    const change: Change = {};
    await this.#write(async (desk) => {
      await this.#takeOwn(desk, events, change);
      const own = await this.#own();
      const synced = whole ? Math.max(own.synced, head) : own.synced;
      await this.#setMeta('own', { ...own, synced, head: whole ? synced : Math.max(own.head, head) });
      change.chats = [...desk.changed];
    });
    this.changes.publish(change);
  }

  /** Up to where the own log is held. */
  async ownTip(): Promise<number> {
    return (await this.#own()).synced;
  }

  /**
   * Stores chats that were asked for when the own log was held up to `askedAt`: one that the person left after that is
   * newer than the answer. `listToken` is where the list goes on, null when it is all here.
   */
  async putChats(chats: ToldChat[], askedAt: number, listToken?: string | null): Promise<void> {
    await this.#write(async (desk) => {
      for (const chat of chats) {
        const left = (await desk.chat(chat.id))?.left;
        if (!left || (left.seq ?? 0) <= askedAt) await this.#moved(desk, chat);
      }
      if (listToken === null) await this.#db.meta.delete('listToken');
      else if (listToken !== undefined) await this.#setMeta('listToken', listToken);
    });
    this.changes.publish({ chats: chats.map((chat) => chat.id) });
  }

  async putReceipts(moved: MovedReceipts[]): Promise<void> {
    const chats: ChatId[] = [];
    await this.#write(async (desk) => {
      for (const { chatId, receipts } of moved) if (await desk.receipts(chatId, receipts)) chats.push(chatId);
    });
    if (chats.length > 0) this.changes.publish({ chats });
  }

  async putScheduled(scheduled: Scheduled[]): Promise<void> {
    await this.#write(async () => {
      await this.#db.scheduled.clear();
      await this.#db.scheduled.bulkPut(scheduled);
      await this.#setMeta('scheduledHeld', true);
    });
    this.changes.publish({ scheduled: true });
  }

  /**
   * There is no such chat for the person, says the answer to what was asked when the own log was held up to `askedAt`.
   * What came of the own log meanwhile may be newer than the answer: then it is to be asked again.
   */
  async gone(id: ChatId, askedAt: number): Promise<void> {
    await this.#write(async (desk) => {
      if ((await this.#own()).synced !== askedAt) return;
      await this.#left(desk, id, { reason: LeftReason.UNSPECIFIED, by: NOBODY, seq: askedAt + 1 });
    });
    this.changes.publish({ chats: [id], drafts: [id] });
  }

  /** Takes note of heads; chats that were not known yet become unknown chats. */
  async noteHeads(heads: Heads): Promise<void> {
    await this.#write(async (desk) => {
      for (const [id, head] of heads.chats) {
        const chat = (await desk.chat(id)) ?? unknownChat(id);
        const next = chat.left ? chat : noteHead(chat, head);
        if (next !== chat || chat.unknown) desk.put(next);
      }
      await this.#noteOwnHead(heads.own);
    });
  }

  /** Stores a cursor when everything up to its heads is held, else not; says which. */
  adopt(cursor: Uint8Array, heads: Heads): Promise<boolean> {
    return this.#write((desk) => this.#adopt(desk, heads, cursor));
  }

  // What the person does

  /** Puts a message into the outbox; it is on disk when this is done. */
  async enqueue(id: ChatId, { text, replyTo = 0, threadSeq = 0, mentions }: Writing, atMs: number): Promise<void> {
    await this.#write(async (desk) => {
      const writing = { text, replyTo, threadSeq, ...(mentions && { mentions }) };
      await this.#db.outbox.add({ clientMessageId: randomId(), chatId: id, ...writing, atMs, state: 'waiting' });
      const chat = await desk.chat(id);
      if (chat) desk.put({ ...chat, activeAtMs: Math.max(chat.activeAtMs, atMs) });
    });
    this.changes.publish({ chats: [id], outbox: true });
  }

  /** The server has the message: it waits for its event only. */
  async acknowledged(unsent: Unsent, seq: number, atMs: number): Promise<void> {
    await this.#write(async (desk) => {
      await this.#unsent(unsent).modify({ state: 'sent', seq, atMs });
      const chat = await desk.chat(unsent.chatId);
      if (chat && !chat.left) desk.put(noteHead(chat, seq));
    });
    this.changes.publish({ chats: [unsent.chatId], outbox: true });
  }

  /** The message is being given to the server; no answer may come. */
  async trying(unsent: Unsent): Promise<void> {
    await this.#unsent(unsent).modify({ tried: true });
  }

  /** The server will never take the message as it is. */
  async refused(unsent: Unsent, reason: number): Promise<void> {
    await this.#unsent(unsent).modify({ state: 'failed', reason, tried: false });
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

  /** The person has really seen everything up to here; the server is told when it can be. */
  async see(id: ChatId, seq: number): Promise<void> {
    const moved = await this.#write(async (desk) => {
      const chat = await desk.chat(id);
      if (!chat || chat.left || (chat.read.seen >= seq && !chat.settings.markedUnread)) return false;
      const shelf = await desk.shelf(chat, [], Math.min(seq, chat.tip));
      const settings = { ...chat.settings, markedUnread: false };
      desk.put({ ...seenUpTo({ ...chat, settings }, seq, shelf, this.#me), toMark: Math.max(chat.toMark, seq) });
      return true;
    });
    if (moved) this.changes.publish({ chats: [id] });
  }

  /** The answer of MarkRead, or a refusal that no repeat would change. */
  async marked(id: ChatId, seq: number, read?: ReadBase): Promise<void> {
    await this.#write(async (desk) => {
      const chat = await desk.chat(id);
      if (!chat || chat.left) return;
      const next = chat.toMark <= seq ? { ...chat, toMark: 0 } : chat;
      desk.put(read ? await this.#rebase(desk, next, read) : next);
    });
    this.changes.publish({ chats: [id] });
  }

  /** What has come and was not told yet: a chat counts when somebody else said the newest. */
  async undelivered(max: number): Promise<Array<{ id: ChatId; seq: number }>> {
    const chats = await this.chats();
    const news = chats.filter((chat) => chat.unread > 0 && chat.last && chat.last.seq > chat.delivered && chat.last.actorId !== this.#me);
    return news.slice(0, max).map((chat) => ({ id: chat.id, seq: chat.tip }));
  }

  async delivered(told: Array<{ id: ChatId; seq: number }>): Promise<void> {
    await this.#write(async (desk) => {
      for (const { id, seq } of told) {
        const chat = await desk.chat(id);
        if (chat) desk.put({ ...chat, delivered: Math.max(chat.delivered, seq) });
      }
    });
  }

  /** How far was read and not told yet. */
  async unmarked(): Promise<Array<{ id: ChatId; seq: number }>> {
    return (await this.chats()).filter((chat) => chat.toMark > 0).map((chat) => ({ id: chat.id, seq: chat.toMark }));
  }

  /** Settings as they shall be, before the server agreed or after it did. */
  async putSettings(id: ChatId, settings: Settings): Promise<void> {
    await this.#write(async (desk) => {
      const chat = await desk.chat(id);
      if (chat) desk.put({ ...chat, settings });
    });
    this.changes.publish({ chats: [id] });
  }

  /** Keeps what was typed; `dirty` until the server has it. */
  async putDraft(draft: HeldDraft): Promise<void> {
    const empty = draft.text === '' && draft.replyTo === 0 && !draft.dirty;
    await (empty ? this.#db.drafts.delete(draft.chatId) : this.#db.drafts.put(draft));
    this.changes.publish({ drafts: [draft.chatId] });
  }

  // Inside a transaction

  async #write<T>(work: (desk: Desk) => Promise<T>): Promise<T> {
    const { chats, events, outbox, drafts, receipts, scheduled, meta } = this.#db;
    return await this.#db.transaction('rw', [chats, events, outbox, drafts, receipts, scheduled, meta], async () => {
      const desk = new Desk(this.#db, this.#me);
      const result = await work(desk);
      await desk.putAway((id) => (this.#open.get(id) ?? 0) > 0);
      return result;
    });
  }

  /** A chat that moved while nobody listened: what is missing is filled, or given up at once. */
  async #moved(desk: Desk, news: ToldChat): Promise<void> {
    const chat = await desk.told(news);
    if (shouldJump(chat)) desk.put(jump(chat, news.head, await desk.shelf(chat, needed(chat, [])), this.#me));
  }

  async #adopt(desk: Desk, heads: Heads, cursor: Uint8Array): Promise<boolean> {
    if ((await this.#own()).synced < heads.own) return false;
    for (const [id, head] of heads.chats) {
      const chat = await desk.chat(id);
      if (!chat || (!chat.left && chat.tip < head)) return false;
    }
    await this.#setMeta('cursor', cursor);
    return true;
  }

  /** An own message that comes back as an event needs no acknowledgement. */
  async #forgetSent(events: readonly Event[]): Promise<boolean> {
    const ids = events.flatMap((e) => (e.message && e.actorId === this.#me && e.message.deviceId === this.#deviceId ? [e.message.clientMessageId] : []));
    if (ids.length === 0) return false;
    return (await this.#db.outbox.where('clientMessageId').anyOf(ids).delete()) > 0;
  }

  /** Own events in their order; what is beyond a hole waits. */
  async #takeOwn(desk: Desk, news: readonly OwnEvent[], change: Change): Promise<void> {
    if (news.length === 0) return;
    const own = await this.#own();
    const waiting = [...own.aside, ...news].sort((a, b) => a.seq - b.seq);
    const later: OwnEvent[] = [];
    for (const event of waiting) {
      own.head = Math.max(own.head, event.seq);
      if (event.seq <= own.synced) continue;
      if (event.prev > own.synced) later.push(event);
      else {
        if (event.act) await this.#act(desk, event.seq, event.act, change);
        own.synced = event.seq;
      }
    }
    await this.#setMeta('own', { ...own, aside: later.slice(0, OWN_ASIDE_MAX) });
  }

  async #act(desk: Desk, seq: number, act: OwnAct, change: Change): Promise<void> {
    if (act.kind === 'joined') {
      await this.#moved(desk, act.chat);
      change.drafts = [...(change.drafts ?? []), act.chat.id];
      return;
    }
    if (act.kind === 'scheduled') {
      await (act.scheduled ? this.#db.scheduled.put(act.scheduled) : this.#db.scheduled.delete(act.id));
      change.scheduled = true;
      return;
    }
    if (act.kind === 'left') return await this.#left(desk, act.chatId, { reason: act.reason, by: act.by, seq });
    const chat = await desk.chat(act.chatId);
    if (!chat || chat.left) return;
    // Of a chat that is not known yet everything is asked for; but its messages may be here already.
    if (chat.unknown && act.kind !== 'hidden') return;
    switch (act.kind) {
      case 'read': {
        const settings = { ...chat.settings, markedUnread: false };
        desk.put(await this.#rebase(desk, { ...chat, settings }, act.read));
        return;
      }
      case 'settings':
        return desk.put({ ...chat, settings: act.settings });
      case 'draft': {
        const held = await this.#db.drafts.get(chat.id);
        // What is being typed here is newer than what was typed elsewhere.
        if (held?.dirty) return;
        await (act.draft ? this.#db.drafts.put({ chatId: chat.id, ...act.draft, dirty: false }) : this.#db.drafts.delete(chat.id));
        change.drafts = [...(change.drafts ?? []), chat.id];
        return;
      }
      case 'hidden':
        return desk.put(hide(chat, act.targets, await desk.shelf(chat, act.targets)));
    }
  }

  async #rebase(desk: Desk, chat: Chat, read: ReadBase): Promise<Chat> {
    if (!newer(read, chat.read)) return chat;
    return rebased(chat, read, await desk.shelf(chat, [], Math.min(read.asOf, chat.tip)), this.#me);
  }

  async #left(desk: Desk, id: ChatId, left: NonNullable<Chat['left']>): Promise<void> {
    const { kind, title, avatar, memberIds } = (await desk.chat(id)) ?? unknownChat(id);
    await desk.clear(id);
    desk.put({ ...unknownChat(id), kind, title, avatar, memberIds, unknown: 0, left });
  }

  async #noteOwnHead(head: number): Promise<void> {
    const own = await this.#own();
    if (head > own.head) await this.#setMeta('own', { ...own, head });
  }

  /** Under another epoch nothing that was held is true. */
  async #beginEpoch(reset: Extract<MissedAnswer, { kind: 'reset' }>, change: Change): Promise<void> {
    if ((await this.#meta<string>('epoch')) !== reset.epoch) {
      const { chats, events, receipts, scheduled, meta, drafts, outbox } = this.#db;
      await Promise.all([chats, events, receipts, scheduled, meta].map((table) => table.clear()));
      await drafts.filter((draft) => !draft.dirty).delete();
      await outbox.where('state').equals('sent').delete();
      change.anew = true;
      await this.#setMeta('epoch', reset.epoch);
      await this.#setMeta('own', { synced: reset.ownHead, head: reset.ownHead, aside: [] });
    }
    if (reset.more) await this.#setMeta('listToken', '');
    else await this.#db.meta.delete('listToken');
  }

  #unsent(unsent: Unsent) {
    return this.#db.outbox.where('clientMessageId').equals(unsent.clientMessageId);
  }

  async #own(): Promise<Own> {
    return { synced: 0, head: 0, aside: [], ...(await this.#meta<Own>('own')) };
  }

  async #meta<T>(key: string): Promise<T | undefined> {
    return (await this.#db.meta.get(key))?.value as T | undefined;
  }

  #setMeta(key: string, value: unknown): Promise<unknown> {
    return this.#db.meta.put({ key, value });
  }
}


function grouped<T>(items: readonly T[], chatOf: (item: T) => ChatId): Map<ChatId, T[]> {
  const groups = new Map<ChatId, T[]>();
  for (const item of items) {
    const id = chatOf(item);
    const group = groups.get(id);
    if (group) group.push(item);
    else groups.set(id, [item]);
  }
  return groups;
}
