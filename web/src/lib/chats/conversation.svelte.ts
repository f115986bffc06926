// One open conversation: the timeline, fed from the store and from the server's pages.

import type { Carrier } from '../api/call';
import { CallFailed } from '../api/failure';
import type { ChatId, UserId } from '../api/ids';
import type { Chat } from './model';
import { readPage } from './pages';
import { soon } from './soon';
import type { ChatStore } from './store';
import { FILL_EVENTS_MAX, Timeline, type Item } from './timeline';

export interface ConversationOptions {
  store: ChatStore;
  carrier: Carrier;
  chatId: ChatId;
  me: { userId: UserId; deviceId: string };
  /** New messages of others, to be told to those who do not see. */
  onHeard(items: Item[]): void;
  onTrouble(trouble: unknown): void;
}

export class Conversation {
  readonly chatId: ChatId;
  #options: ConversationOptions;
  #timeline: Timeline;
  #chat = $state.raw<Chat | undefined>();
  #items = $state.raw<Item[]>([]);
  #prepended = $state(false);
  #loaded = $state(false);
  #missing = $state(false);
  #loadingOlder = $state(false);
  #failed = $state.raw<CallFailed | undefined>();
  #firstNew = $state<number | undefined>();
  #atStart = $state(false);
  #heardUpTo = 0;
  #end: () => void;
  /** Shows the newest state, soon. */
  readonly refresh: () => void;

  constructor(options: ConversationOptions) {
    this.#options = options;
    this.chatId = options.chatId;
    this.#timeline = new Timeline(options.me);
    this.refresh = soon(() => this.#refresh(), options.onTrouble);
    this.#end = options.store.changes.subscribe((change) => {
      if (change.anew) this.#timeline = new Timeline(options.me);
      if (change.anew || change.outbox || change.chats?.includes(this.chatId)) this.refresh();
    });
    this.refresh();
  }

  get chat(): Chat | undefined {
    return this.#chat;
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  /** The newest change put items before those that were there. */
  get prepended(): boolean {
    return this.#prepended;
  }

  /** The newest messages are here, or there are none. */
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

  /** Why messages could not be read. */
  get failed(): CallFailed | undefined {
    return this.#failed;
  }

  /** The first message that was new when the conversation was opened. */
  get firstNew(): number | undefined {
    return this.#firstNew;
  }

  /** Reads a page of the past. */
  async loadOlder(): Promise<void> {
    const request = this.#timeline.older();
    if (!request || this.#loadingOlder) return;
    this.#loadingOlder = true;
    const timeline = this.#timeline;
    try {
      const { store, carrier } = this.#options;
      const page = await readPage(store, carrier, this.chatId, request);
      timeline.page(request, page.events, page.head);
      this.#failed = undefined;
    } catch (thrown) {
      this.#onFailed(thrown);
    }
    this.#loadingOlder = false;
    this.#show();
  }

  /** Stores a message and shows it; it is sent when it can be. */
  async send(text: string): Promise<void> {
    await this.#options.store.enqueue(this.chatId, text, Date.now());
    this.#firstNew = undefined;
  }

  /** The person sees the newest message. */
  async see(): Promise<void> {
    const newest = this.#timeline.run?.[1];
    if (newest) await this.#options.store.see(this.chatId, newest);
  }

  stop(): void {
    this.#end();
  }

  async #refresh(): Promise<void> {
    const { store, carrier } = this.#options;
    const timeline = this.#timeline;
    const chat = await store.chat(this.chatId);
    this.#missing = chat === undefined;
    if (!chat) return;
    if (!this.#chat && chat.seen > 0 && chat.seen < chat.head) this.#firstNew = chat.seen + 1;
    this.#chat = chat;
    timeline.noteHead(chat.head);
    timeline.setUnsent(await store.unsentOf(this.chatId));
    // Before a page is fetched for a hole, what is held beyond it: an own message must not vanish meanwhile.
    const run = timeline.run;
    if (run) {
      for (const event of await store.eventsAfter(this.chatId, run[1], FILL_EVENTS_MAX)) timeline.live(event.seq - 1, event);
    }
    this.#show();
    try {
      for (let wanted = timeline.wants(); wanted; wanted = timeline.wants()) {
        const page = await readPage(store, carrier, this.chatId, wanted);
        timeline.page(wanted, page.events, page.head);
      }
      this.#failed = undefined;
      // Shown before it counts as loaded: what was there at the beginning is not told as news.
      this.#show();
      this.#loaded = true;
    } catch (thrown) {
      this.#onFailed(thrown);
      this.#show();
    }
  }

  #show(): void {
    const items = this.#timeline.items();
    const first = this.#items[0];
    const last = this.#items.at(-1);
    const grewAtTop = first !== undefined && items[0]?.key !== first.key && items.some((i) => i.key === first.key);
    const same = items.length === this.#items.length && items.at(-1)?.key === last?.key && !grewAtTop;
    this.#atStart = this.#timeline.atStart;
    if (same && items.every((item, i) => item.state === this.#items[i]?.state && item.seq === this.#items[i]?.seq)) return;
    this.#prepended = grewAtTop;
    this.#items = items;
    this.#tellHeard(items);
  }

  #tellHeard(items: Item[]): void {
    const newest = items.findLast((item) => item.seq !== undefined)?.seq ?? 0;
    const heard = this.#loaded ? items.filter((i) => !i.own && i.seq !== undefined && i.seq > this.#heardUpTo) : [];
    this.#heardUpTo = Math.max(this.#heardUpTo, newest);
    if (heard.length > 0) this.#options.onHeard(heard);
  }

  #onFailed(thrown: unknown): void {
    if (thrown instanceof CallFailed) this.#failed = thrown;
    else this.#options.onTrouble(thrown);
  }
}
