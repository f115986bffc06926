// One open conversation: a window on a part of the log, fed from the store and from the server's pages.

import type { Carrier } from '../api/call';
import { CallFailed } from '../api/failure';
import type { ChatId, UserId } from '../api/ids';
import { livePart, type Chat } from './log';
import { Loose } from './loose';
import type { Event, Message } from './model';
import { around, type Part } from './parts';
import { fetchMessages, fetchPage, refreshPart } from './pages';
import type { Receipts } from './receipts';
import { soon } from './soon';
import type { ChatStore, Writing } from './store';
import { toItems, type Item, type Overlay } from './timeline';

export interface ConversationOptions {
  store: ChatStore;
  carrier: Carrier;
  chatId: ChatId;
  me: { userId: UserId; deviceId: string };
  /** New messages of others, to be told to those who do not see. */
  onHeard(items: Item[]): void;
  onTrouble(trouble: unknown): void;
  now?: () => number;
}

/** How many events are shown at first, and come with each step. */
export const PAGE_EVENTS = 60;
/** Events around a message that is jumped to. */
const AROUND_EVENTS = 30;
/** A part this near to the end is shown together with the end. */
const NEAR_END_EVENTS = 300;
/** With more unread messages than this a conversation opens where reading stopped. */
const OPEN_AT_UNREAD = 40;
const ROUNDS_MAX = 50;

export class Conversation {
  readonly chatId: ChatId;
  #options: ConversationOptions;
  #loose: Loose;
  #looseAsked = new Set<number>();
  #overlays: Overlay[] = [];
  /** The message that the window is around; undefined while it follows the end. */
  #at: number | undefined;
  #lo = 0;
  #hi = 0;
  #opened = false;
  #chat = $state.raw<Chat | undefined>();
  #items = $state.raw<Item[]>([]);
  #quotes = $state.raw<ReadonlyMap<number, Event>>(new Map());
  #receipts = $state.raw<Receipts>(new Map());
  #prepended = $state(false);
  #loaded = $state(false);
  #missing = $state(false);
  #loadingOlder = $state(false);
  #loadingNewer = false;
  #failed = $state.raw<CallFailed | undefined>();
  #firstNew = $state<number | undefined>();
  #atStart = $state(false);
  #atTip = $state(true);
  #heardUpTo = 0;
  #stopped = false;
  #ends: Array<() => void>;
  /** Shows the newest state, soon. */
  readonly refresh: () => void;

  constructor(options: ConversationOptions) {
    this.#options = options;
    this.chatId = options.chatId;
    this.#loose = new Loose(options.me.userId);
    this.refresh = soon(() => this.#refresh(), (trouble) => this.#onTrouble(trouble));
    const unsubscribe = options.store.changes.subscribe((change) => {
      if (change.anew) this.#begin();
      if (change.anew || change.outbox || change.chats?.includes(this.chatId)) this.refresh();
    });
    this.#ends = [unsubscribe, options.store.keep(this.chatId)];
    this.refresh();
  }

  get chat(): Chat | undefined {
    return this.#chat;
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  /** How far the chat has reached its members, as far as that is told. */
  get receipts(): Receipts {
    return this.#receipts;
  }

  /** The newest change put items before those that were there. */
  get prepended(): boolean {
    return this.#prepended;
  }

  /** The messages are here, or there are none. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /** There is no such chat, as far as this browser knows. */
  get missing(): boolean {
    return this.#missing;
  }

  get loadingOlder(): boolean {
    return this.#loadingOlder;
  }

  get atStart(): boolean {
    return this.#atStart;
  }

  /** The newest messages are among those that are shown. */
  get atTip(): boolean {
    return this.#atTip;
  }

  /** Why messages could not be read. */
  get failed(): CallFailed | undefined {
    return this.#failed;
  }

  /** The first message that was new when the conversation was opened. */
  get firstNew(): number | undefined {
    return this.#firstNew;
  }

  /** A message that is shown, quoted or pinned; undefined while it is being read. */
  quoted(seq: number): Event | undefined {
    return this.#quotes.get(seq);
  }

  /** Shows more of the past. */
  async loadOlder(): Promise<void> {
    if (this.#loadingOlder || this.#atStart || !this.#loaded) return;
    this.#loadingOlder = true;
    try {
      const chat = await this.#options.store.chat(this.chatId);
      const run = chat && this.#run(chat);
      if (chat && run) {
        if (this.#lo - PAGE_EVENTS < run.from && run.from > 1) await this.#extendDown(chat, run);
        this.#lo = Math.max(1, this.#lo - PAGE_EVENTS);
      }
      this.#failed = undefined;
    } catch (thrown) {
      this.#onFailed(thrown);
    }
    this.#loadingOlder = false;
    await this.#showSafely();
  }

  /** Shows more towards the end, when the window is somewhere else. */
  async loadNewer(): Promise<void> {
    if (this.#loadingNewer || this.#at === undefined || !this.#loaded) return;
    this.#loadingNewer = true;
    try {
      const chat = await this.#options.store.chat(this.chatId);
      const run = chat && this.#run(chat);
      if (chat && run) {
        if (this.#hi + PAGE_EVENTS > run.to && run.to < chat.tip) await this.#extendUp(chat, run);
        this.#hi += PAGE_EVENTS;
      }
    } catch (thrown) {
      this.#onFailed(thrown);
    }
    this.#loadingNewer = false;
    await this.#showSafely();
  }

  /** Goes to a message, wherever it is; says whether it is shown then. */
  async jumpTo(seq: number): Promise<boolean> {
    if (this.#items.some((item) => item.seq === seq)) return true;
    try {
      await this.#around(seq);
      this.#failed = undefined;
    } catch (thrown) {
      this.#onFailed(thrown);
    }
    await this.#showSafely();
    return this.#items.some((item) => item.seq === seq);
  }

  /** Goes to the newest messages. */
  async toEnd(): Promise<void> {
    if (this.#atTip) return;
    this.#at = undefined;
    this.#lo = 0;
    await this.#refresh();
  }

  /** Stores a message and shows it; it is sent when it can be. */
  async send(writing: Writing): Promise<void> {
    await this.#options.store.enqueue(this.chatId, writing, Date.now());
    this.#firstNew = undefined;
    if (!writing.threadSeq) await this.toEnd();
  }

  /** The person has really seen everything up to this message. */
  async see(seq: number): Promise<void> {
    await this.#options.store.see(this.chatId, seq);
  }

  /** Sees to it that a message can be quoted. */
  need(seqs: Iterable<number>): void {
    const missing = [...seqs].filter((seq) => seq > 0 && !this.#quotes.has(seq) && !this.#looseAsked.has(seq));
    if (missing.length === 0) return;
    for (const seq of missing) this.#looseAsked.add(seq);
    void this.#readLoose(missing);
  }

  /**
   * Shows a change at once and asks the server for it. When the server refuses, what was shown is taken back
   * and the failure is thrown.
   */
  async change(target: number, apply: (message: Message) => Message | undefined, ask: () => Promise<{ seq: bigint } | undefined>): Promise<void> {
    const overlay: Overlay = { target, apply };
    this.#overlays.push(overlay);
    await this.#showSafely();
    try {
      const answer = await ask();
      // The event comes by itself; until then the change is shown from here.
      overlay.until = Number(answer?.seq ?? 0n);
    } catch (thrown) {
      this.#overlays = this.#overlays.filter((o) => o !== overlay);
      throw thrown;
    } finally {
      await this.#showSafely();
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const end of this.#ends) end();
  }

  #begin(): void {
    this.#loose.clear();
    this.#looseAsked.clear();
    this.#quotes = new Map();
    [this.#at, this.#lo, this.#hi, this.#loaded] = [undefined, 0, 0, false];
  }

  async #refresh(): Promise<void> {
    const { store } = this.#options;
    const chat = await store.chat(this.chatId);
    this.#missing = chat === undefined;
    if (!chat) return;
    this.#chat = chat;
    if (chat.unknown || chat.left) return;
    if (!this.#opened) this.#open(chat);
    await this.#show();
    try {
      await this.#read();
      this.#failed = undefined;
      // Shown before it counts as loaded: what was there at the beginning is not told as news.
      await this.#show();
      this.#loaded = true;
    } catch (thrown) {
      this.#onFailed(thrown);
    }
  }

  #open(chat: Chat): void {
    this.#opened = true;
    if (chat.unread === 0 || chat.read.seen >= chat.tip) return;
    this.#firstNew = chat.read.seen + 1;
    if (chat.unread > OPEN_AT_UNREAD) this.#at = chat.read.seen + 1;
  }

  /** Reads until the window is held and true. */
  async #read(): Promise<void> {
    const { store, carrier } = this.#options;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const chat = await store.chat(this.chatId);
      if (!chat || chat.tip === 0) return;
      if (this.#at !== undefined && !this.#run(chat)) {
        await this.#around(this.#at);
        continue;
      }
      const run = this.#run(chat);
      if (!run) await fetchPage(store, carrier, this.chatId, { kind: 'before', seq: chat.tip + 1, limit: PAGE_EVENTS });
      else if (run.trueAt < chat.tip) await refreshPart(store, carrier, this.chatId, run);
      else if (run.to - run.from + 1 < PAGE_EVENTS && run.from > 1) await this.#extendDown(chat, run);
      else return;
    }
  }

  /** The part that the window is on. */
  #run(chat: Chat): Part | undefined {
    return this.#at === undefined ? around(chat.parts, chat.tip) : around(chat.parts, this.#at);
  }

  async #extendDown(chat: Chat, run: Part): Promise<void> {
    const { store, carrier } = this.#options;
    const neighbour = around(chat.parts, run.from - 1);
    if (neighbour) await refreshPart(store, carrier, this.chatId, neighbour);
    else await fetchPage(store, carrier, this.chatId, { kind: 'before', seq: run.from, limit: PAGE_EVENTS });
  }

  async #extendUp(chat: Chat, run: Part): Promise<void> {
    const { store, carrier } = this.#options;
    const neighbour = around(chat.parts, run.to + 1);
    if (neighbour && neighbour.trueAt < chat.tip) await refreshPart(store, carrier, this.chatId, neighbour);
    else if (!neighbour) await fetchPage(store, carrier, this.chatId, { kind: 'after', seq: run.to, limit: PAGE_EVENTS });
  }

  /** Puts the window around a message, and reads what it needs. */
  async #around(seq: number): Promise<void> {
    const { store, carrier } = this.#options;
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const chat = await store.chat(this.chatId);
      if (!chat) return;
      const part = around(chat.parts, seq);
      if (!part) {
        const before = Math.min(chat.tip + 1, seq + AROUND_EVENTS);
        await fetchPage(store, carrier, this.chatId, { kind: 'before', seq: before, limit: 2 * AROUND_EVENTS });
        continue;
      }
      if (part.trueAt < chat.tip) {
        await refreshPart(store, carrier, this.chatId, part);
        continue;
      }
      const near = part.to === chat.tip && chat.tip - seq < NEAR_END_EVENTS;
      this.#at = near ? undefined : seq;
      this.#lo = Math.max(1, Math.min(seq - AROUND_EVENTS, near && this.#lo > 0 ? this.#lo : seq));
      this.#hi = near ? 0 : seq + AROUND_EVENTS;
      return;
    }
  }

  async #showSafely(): Promise<void> {
    try {
      await this.#show();
    } catch (trouble) {
      this.#onTrouble(trouble);
    }
  }

  async #show(): Promise<void> {
    const { store, me, now = Date.now } = this.#options;
    const chat = await store.chat(this.chatId);
    if (!chat || chat.left || chat.unknown) return;
    const run = this.#run(chat);
    // Nothing old is shown as if it were true.
    const held = run && run.trueAt >= chat.tip ? run : undefined;
    if (held && this.#at !== undefined && this.#hi >= held.to && held.to === chat.tip) this.#at = undefined;
    const following = this.#at === undefined;
    if (held && this.#lo === 0) this.#lo = Math.max(held.from, held.to - PAGE_EVENTS + 1);
    const [lo, hi] = held ? [Math.max(held.from, this.#lo), following ? held.to : Math.min(held.to, this.#hi)] : [1, 0];
    const [events, unsent, receipts] = await Promise.all([store.events(this.chatId, lo, hi), store.unsentOf(this.chatId), store.receiptsOf(this.chatId)]);
    this.#overlays = this.#overlays.filter((o) => o.until === undefined || o.until > chat.tip);
    const view = { me, nowMs: now(), thread: 0, overlays: this.#overlays };
    const items = toItems(events, following ? unsent : [], view);
    this.#chat = chat;
    this.#receipts = receipts;
    this.#atStart = held ? lo <= 1 : chat.tip === 0;
    this.#atTip = following;
    await this.#followLoose(chat, events);
    this.#put(items);
  }

  #put(items: Item[]): void {
    const before = this.#items;
    const first = before[0];
    this.#prepended = first !== undefined && items[0]?.key !== first.key && items.some((i) => i.key === first.key);
    this.#items = sameItems(before, items);
    this.#tellHeard(items);
  }

  #tellHeard(items: Item[]): void {
    const newest = items.findLast((item) => item.seq !== undefined)?.seq ?? 0;
    const heard = this.#loaded && this.#atTip ? items.filter((i) => !i.own && i.kind !== 'notice' && (i.seq ?? 0) > this.#heardUpTo) : [];
    if (this.#atTip) this.#heardUpTo = Math.max(this.#heardUpTo, newest);
    if (heard.length > 0) this.#options.onHeard(heard);
  }

  // Messages that are quoted or pinned

  async #readLoose(seqs: number[]): Promise<void> {
    try {
      const { events, head } = await fetchMessages(this.#options.carrier, this.chatId, seqs);
      this.#loose.put(events, head);
      await this.#showSafely();
    } catch (thrown) {
      // The next need asks again.
      for (const seq of seqs) this.#looseAsked.delete(seq);
      if (!(thrown instanceof CallFailed)) this.#onTrouble(thrown);
    }
  }

  async #followLoose(chat: Chat, shown: readonly Event[]): Promise<void> {
    const since = this.#loose.since;
    if (since !== undefined && since < chat.tip) {
      const live = livePart(chat);
      if (live && live.from <= since + 1) {
        this.#loose.follow(await this.#options.store.events(this.chatId, since + 1, chat.tip), chat.tip);
      } else {
        this.#loose.clear();
        this.#looseAsked.clear();
      }
    }
    this.#quotes = new Map([...this.#loose.all(), ...shown].filter((event) => event.message).map((event) => [event.seq, event]));
  }

  /** What goes wrong after the end is of no interest. */
  #onTrouble(trouble: unknown): void {
    if (!this.#stopped) this.#options.onTrouble(trouble);
  }

  #onFailed(thrown: unknown): void {
    if (thrown instanceof CallFailed) this.#failed = thrown;
    else this.#onTrouble(thrown);
  }
}

/** The new items, each the old one where nothing of it is another, so that only what changed is drawn. */
function sameItems(before: readonly Item[], items: Item[]): Item[] {
  const known = new Map(before.map((item) => [item.key, item]));
  return items.map((item) => {
    const old = known.get(item.key);
    return old && old.seq === item.seq && old.state === item.state && old.text === item.text && JSON.stringify(old) === JSON.stringify(item) ? old : item;
  });
}
