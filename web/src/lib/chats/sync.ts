// Keeps the store complete: takes the news of the connection in their order, reads what is missing, and
// adopts a cursor only when all that it covers is held.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { MessagesService } from '../../gen/tertulia/chats/v1/messages_pb';
import { call, type Carrier } from '../api/call';
import { CallFailed, Reason } from '../api/failure';
import { chatId, type ChatId } from '../api/ids';
import type { News } from '../live/connection';
import type { Live } from './log';
import { toChat, toEvent, toReceipts, toScheduled } from './model';
import { fetchPage } from './pages';
import type { ChatStore, Heads, Lacking, MovedReceipts, OwnEvent } from './store';
import { verify, type Verified } from './verify';
import { headsOf, toHeads, toMissed, toOwn } from './wire';

/** News that may wait to be stored. Past it they are dropped, and asked for once there is time. */
const NEWS_MAX = 4000;
/** How long what is missing may come by itself before it is asked for. */
const HOLE_WAIT_MS = 300;
const READ_EVENTS = 500;
const LIST_CHATS = 200;
/** Rounds of reading before the next news or heartbeat has to bring us back. */
const ROUNDS_MAX = 200;

export interface SyncOptions {
  store: ChatStore;
  carrier: Carrier;
  /** Asks the server for what was missed. */
  catchUp(): void;
  /** What was missed is stored, or a hole was closed: messages may be sent that had to wait for it. */
  onWhole?(): void;
  /** The browser does not store; what was told is asked for again at the next connection. */
  onTrouble(trouble: unknown): void;
  setTimeout?: (run: () => void, ms: number) => unknown;
}

export class Sync {
  #options: SyncOptions;
  #waiting: News[] = [];
  #working: Promise<void> | undefined;
  /** False from when something was dropped until an answer says what was missed: no cursor till then. */
  #whole = false;
  #heads = { chats: new Map<ChatId, number>(), own: 0 };
  #cursor: Uint8Array | undefined;
  #repairing = false;
  #repairAgain = false;
  #repairSoon = false;
  #listing = false;
  #stopped = false;

  constructor(options: SyncOptions) {
    this.#options = options;
  }

  /** What was missed is stored, so that what is held says what the server has. */
  get settled(): boolean {
    return this.#whole;
  }

  /** Takes news; returns at once. */
  take(news: News): void {
    if (this.#stopped) return;
    // Until the answer is stored, what is held says nothing about what the server has.
    if (news.kind === 'missed') this.#whole = false;
    if (this.#waiting.length >= NEWS_MAX) {
      this.#waiting = this.#waiting.filter((n) => n.kind === 'missed');
      this.#whole = false;
      this.#options.catchUp();
    }
    this.#waiting.push(news);
    this.#working ??= this.#work();
  }

  /** Resolves when everything that was taken is stored. */
  async idle(): Promise<void> {
    while (this.#working) await this.#working;
  }

  /** Compares what is held of a chat with the server by digests, and reads again what differs. */
  async verify(id: ChatId): Promise<Verified> {
    const { store, carrier } = this.#options;
    const verified = await verify(store, carrier, id);
    // What is unread is not known where something was wrong.
    if (verified.healed > 0) this.#repair();
    return verified;
  }

  stop(): void {
    this.#stopped = true;
    this.#waiting = [];
  }

  async #work(): Promise<void> {
    // What comes together is stored together.
    await Promise.resolve();
    while (this.#waiting.length > 0 && !this.#stopped) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#store(batch);
      } catch (trouble) {
        this.#whole = false;
        if (!this.#stopped) this.#options.onTrouble(trouble);
      }
    }
    this.#working = undefined;
  }

  /** Stores a batch: neighbouring events together, everything else by itself. */
  async #store(batch: News[]): Promise<void> {
    const { store } = this.#options;
    let own: OwnEvent[] = [];
    let events: Live[] = [];
    let receipts: MovedReceipts[] = [];
    const flush = async () => {
      if (own.length > 0 || events.length > 0) {
        if (await store.putLive(own, events)) this.#repairLater();
      }
      if (receipts.length > 0) await store.putReceipts(receipts);
      [own, events, receipts] = [[], [], []];
    };
    for (const news of batch) {
      if (news.kind === 'chat_event' && news.event.event) {
        events.push({ prev: Number(news.event.prev), event: toEvent(news.event.event) });
      } else if (news.kind === 'own_event' && news.event.event) {
        own.push(toOwn(news.event.prev, news.event.event));
      } else if (news.kind === 'receipts') {
        receipts.push(toReceipts(news.receipts));
      } else {
        await flush();
        if (news.kind === 'missed') await this.#onMissed(news);
        else if (news.kind === 'heartbeat') await this.#onHeartbeat(news);
        else if (news.kind === 'warmed') await this.#onWarmed(news);
      }
    }
    await flush();
    await this.#adopt();
  }

  async #onMissed({ missed }: Extract<News, { kind: 'missed' }>): Promise<void> {
    const answer = missed && toMissed(missed);
    if (!missed || !answer) return;
    const heads = headsOf(answer);
    // The answer covers everything that earlier heartbeats spoke of.
    const held = await this.#options.store.putMissed(answer, heads, missed.cursor);
    await this.#options.store.putReceipts(missed.receipts.map(toReceipts));
    this.#heads = held ? { chats: new Map(), own: 0 } : { chats: new Map(heads.chats), own: heads.own };
    this.#cursor = held ? undefined : missed.cursor;
    this.#whole = true;
    this.#options.onWhole?.();
    this.#repair();
    void this.#list();
  }

  async #onHeartbeat({ heartbeat }: Extract<News, { kind: 'heartbeat' }>): Promise<void> {
    if (heartbeat.receipts.length > 0) await this.#options.store.putReceipts(heartbeat.receipts.map(toReceipts));
    // A heartbeat without a cursor says only that the server is there.
    if (!this.#whole || heartbeat.cursor.length === 0) return;
    this.#noteHeads(toHeads(heartbeat));
    this.#cursor = heartbeat.cursor;
    if (await this.#adopt()) return;
    await this.#options.store.noteHeads(this.#heads);
    this.#repair();
  }

  /** From here on the chats are heard live: what is before it and not held is read. */
  async #onWarmed({ warmed }: Extract<News, { kind: 'warmed' }>): Promise<void> {
    const chats = new Map(warmed.heads.map((head) => [chatId(head.chatId), Number(head.seq)]));
    await this.#options.store.noteHeads({ chats, own: 0 });
    this.#repair();
  }

  #noteHeads(heads: Heads): void {
    for (const [id, seq] of heads.chats) this.#heads.chats.set(id, Math.max(seq, this.#heads.chats.get(id) ?? 0));
    this.#heads.own = Math.max(this.#heads.own, heads.own);
  }

  async #adopt(): Promise<boolean> {
    if (!this.#whole || !this.#cursor) return true;
    const cursor = this.#cursor;
    if (!(await this.#options.store.adopt(cursor, this.#heads))) return false;
    if (this.#cursor === cursor) {
      this.#cursor = undefined;
      this.#heads = { chats: new Map(), own: 0 };
    }
    return true;
  }

  // Reading what is missing

  /** Waits a moment: an event that overtook another is followed by it. */
  #repairLater(): void {
    if (this.#repairSoon) return;
    this.#repairSoon = true;
    const { setTimeout: after = setTimeout } = this.#options;
    after(() => {
      this.#repairSoon = false;
      this.#repair();
    }, HOLE_WAIT_MS);
  }

  #repair(): void {
    this.#repairAgain = true;
    if (this.#repairing || this.#stopped) return;
    this.#repairing = true;
    void this.#repairAll();
  }

  async #repairAll(): Promise<void> {
    while (this.#repairAgain && !this.#stopped) {
      this.#repairAgain = false;
      try {
        let repaired = false;
        for (let round = 0; round < ROUNDS_MAX; round += 1) {
          const lacking = await this.#options.store.lacking();
          if (lacking.holes.length + lacking.ask.length === 0 && lacking.own === undefined) break;
          repaired = true;
          if (!(await this.#readLacking(lacking))) break;
        }
        await this.#adopt();
        if (repaired) this.#options.onWhole?.();
      } catch (trouble) {
        // Without a connection there is nothing to do: the next answer or heartbeat brings us back here.
        if (!(trouble instanceof CallFailed) && !this.#stopped) this.#options.onTrouble(trouble);
        break;
      }
    }
    this.#repairing = false;
  }

  /** Says whether it brought anything; if not, asking again would not either. */
  async #readLacking(lacking: Lacking): Promise<boolean> {
    const { store, carrier } = this.#options;
    let brought = lacking.own !== undefined || lacking.ask.length > 0;
    if (lacking.own !== undefined) await this.#readOwn(lacking.own);
    for (const id of lacking.ask) {
      await this.#orGone(id, async (askedAt) => {
        const { chat } = await call(carrier, ChatsService.method.getChat, { chatId: BigInt(id) });
        if (chat) await store.putChats([toChat(chat)], askedAt);
      });
    }
    for (const { id, tip } of lacking.holes) {
      await this.#orGone(id, async () => {
        const { events } = await fetchPage(store, carrier, id, { kind: 'after', seq: tip, limit: READ_EVENTS });
        brought ||= events.length > 0;
      });
    }
    return brought;
  }

  async #readOwn(after: number): Promise<void> {
    const { store, carrier } = this.#options;
    const answer = await call(carrier, ChatsService.method.listUserEvents, { afterSeq: BigInt(after), limit: READ_EVENTS });
    const head = Number(answer.head);
    const last = answer.events.at(-1);
    const own = answer.events.map((event, i) => toOwn(answer.events[i - 1]?.seq ?? BigInt(after), event));
    await store.putOwnPage(own, head, !last || Number(last.seq) >= head);
  }

  async #orGone(id: ChatId, work: (askedAt: number) => Promise<void>): Promise<void> {
    const askedAt = await this.#options.store.ownTip();
    try {
      await work(askedAt);
    } catch (thrown) {
      if (!(thrown instanceof CallFailed) || thrown.reason !== Reason.CHAT_NOT_FOUND) throw thrown;
      await this.#options.store.gone(id, askedAt);
    }
  }

  /** Reads the list of chats to its end, from where it was left, and the scheduled messages once. */
  async #list(): Promise<void> {
    if (this.#listing) return;
    this.#listing = true;
    const { store, carrier } = this.#options;
    try {
      for (let token = await store.listToken(); token !== undefined; ) {
        const askedAt = await store.ownTip();
        const answer = await call(carrier, ChatsService.method.listChats, { limit: LIST_CHATS, pageToken: token });
        token = answer.nextPageToken || undefined;
        await store.putChats(answer.chats.map(toChat), askedAt, token ?? null);
      }
      if (await store.lacksScheduled()) {
        const { scheduled } = await call(carrier, MessagesService.method.listScheduledMessages, {});
        await store.putScheduled(scheduled.map(toScheduled));
      }
    } catch (thrown) {
      if (thrown instanceof CallFailed && thrown.reason === Reason.BAD_CURSOR) await store.putChats([], 0, '');
      else if (!(thrown instanceof CallFailed) && !this.#stopped) this.#options.onTrouble(thrown);
    } finally {
      this.#listing = false;
    }
  }
}
