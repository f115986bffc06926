// One open thread: its first message and the replies, read once and kept true by what happens in the chat.

import { CallFailed } from '../api/failure';
import type { ChatId } from '../api/ids';
import { livePart } from './log';
import { Loose } from './loose';
import type { Event, Message } from './model';
import { fetchMessages, fetchThread } from './pages';
import { soon } from './soon';
import type { Talk } from './talk.svelte';
import { toItems, type Item, type Overlay } from './timeline';
import type { Writing } from './store';

export class Thread {
  readonly chatId: ChatId;
  readonly seq: number;
  #talk: Talk;
  #loose: Loose;
  #read = false;
  #overlays: Overlay[] = [];
  #items = $state.raw<readonly Item[]>([]);
  #quotes = $state.raw<ReadonlyMap<number, Event>>(new Map());
  #loaded = $state(false);
  #failed = $state.raw<CallFailed | undefined>();
  #end: () => void;
  #stopped = false;
  readonly refresh: () => void;

  constructor(talk: Talk, chatId: ChatId, seq: number) {
    this.#talk = talk;
    this.chatId = chatId;
    this.seq = seq;
    this.#loose = new Loose(talk.me.userId);
    this.refresh = soon(
      () => this.#refresh(),
      (trouble) => !this.#stopped && talk.onTrouble(trouble),
    );
    this.#end = talk.store.changes.subscribe((change) => {
      if (change.anew) this.#forget();
      if (change.anew || change.outbox || change.chats?.includes(chatId)) this.refresh();
    });
    this.refresh();
  }

  /** The first message, the replies, what is on its way. */
  get items(): readonly Item[] {
    return this.#items;
  }

  get loaded(): boolean {
    return this.#loaded;
  }

  get failed(): CallFailed | undefined {
    return this.#failed;
  }

  quoted(seq: number): Event | undefined {
    return this.#quotes.get(seq);
  }

  async send(writing: Writing): Promise<void> {
    await this.#talk.store.enqueue(this.chatId, writing, Date.now());
  }

  /** As of a conversation: shown at once, taken back when it is refused. */
  async change(target: number, apply: (message: Message) => Message | undefined, ask: () => Promise<{ seq: bigint } | undefined>): Promise<void> {
    const overlay: Overlay = { target, apply };
    this.#overlays.push(overlay);
    this.refresh();
    try {
      overlay.until = Number((await ask())?.seq ?? 0n);
    } catch (thrown) {
      this.#overlays = this.#overlays.filter((o) => o !== overlay);
      throw thrown;
    } finally {
      this.refresh();
    }
  }

  /** The person deleted a message for themselves. */
  hide(seq: number): void {
    this.#loose.hide([seq]);
    this.refresh();
  }

  stop(): void {
    this.#stopped = true;
    this.#end();
  }

  #forget(): void {
    this.#loose.clear();
    this.#read = false;
  }

  async #refresh(): Promise<void> {
    const { store, carrier, me } = this.#talk;
    try {
      if (!this.#read) {
        const thread = await fetchThread(carrier, this.chatId, this.seq);
        const root = await fetchMessages(carrier, this.chatId, [this.seq]);
        this.#loose.put(thread.events, thread.head);
        this.#loose.put(root.events, root.head);
        this.#read = true;
      }
      this.#failed = undefined;
    } catch (thrown) {
      if (!(thrown instanceof CallFailed)) throw thrown;
      this.#failed = thrown;
      return;
    }
    const chat = await store.chat(this.chatId);
    if (!chat) return;
    const since = this.#loose.since ?? chat.tip;
    const live = livePart(chat);
    if (since < chat.tip) {
      if (!live || live.from > since + 1) {
        this.#forget();
        this.refresh();
        return;
      }
      this.#loose.follow(await store.events(this.chatId, since + 1, chat.tip), chat.tip, this.seq);
    }
    this.#overlays = this.#overlays.filter((o) => o.until === undefined || o.until > chat.tip);
    const all = this.#loose.all();
    const unsent = await store.unsentOf(this.chatId);
    this.#items = toItems(all, unsent, { me, nowMs: Date.now(), thread: this.seq, overlays: this.#overlays });
    this.#quotes = new Map(all.map((event) => [event.seq, event]));
    this.#loaded = true;
  }
}
