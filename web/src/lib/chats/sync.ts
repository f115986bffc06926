// Keeps the store complete: takes the news of the connection in their order, reads what was lost on the
// way, and adopts a heartbeat's cursor only when all that it covers is held.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { call, type Carrier } from '../api/call';
import { CallFailed, Reason } from '../api/failure';
import type { ChatId } from '../api/ids';
import type { News } from '../live/connection';
import { toChat, toEvent } from './model';
import { fetchPage } from './pages';
import type { ChatStore, Lacking, LiveEvent, OwnLogEvent } from './store';
import { PAGE_EVENTS } from './timeline';
import { toHeads, toMissed, toOwn } from './wire';

/** News that may wait to be stored. Past it they are dropped, and asked for once there is time. */
const NEWS_MAX = 4000;
/** Events that are read to fill a hole; the past beyond it is read when somebody scrolls there. */
const REPAIR_EVENTS_MAX = 1000;
const READ_EVENTS = 500;
const LIST_CHATS = 200;

export interface SyncOptions {
  store: ChatStore;
  carrier: Carrier;
  /** Asks the server for what was missed. */
  catchUp(): void;
  /** The browser does not store; what was told is asked for again at the next connection. */
  onTrouble(trouble: unknown): void;
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
  #listing = false;
  #stopped = false;

  constructor(options: SyncOptions) {
    this.#options = options;
  }

  /** Takes news; returns at once. */
  take(news: News): void {
    if (this.#stopped) return;
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
    let own: OwnLogEvent[] = [];
    let events: LiveEvent[] = [];
    const flush = async () => {
      if (own.length === 0 && events.length === 0) return;
      const lost = await this.#options.store.putLive(own, events);
      [own, events] = [[], []];
      if (lost) this.#repair();
    };
    for (const news of batch) {
      if (news.kind === 'chat_event' && news.event.event) {
        events.push({ prev: Number(news.event.prev), event: toEvent(news.event.event) });
      } else if (news.kind === 'own_event' && news.event.event) {
        own.push(toOwn(news.event.prev, news.event.event));
      } else {
        await flush();
        if (news.kind === 'missed') await this.#onMissed(news);
        else if (news.kind === 'heartbeat') await this.#onHeartbeat(news);
      }
    }
    await flush();
    await this.#adopt();
  }

  async #onMissed({ missed }: Extract<News, { kind: 'missed' }>): Promise<void> {
    const answer = missed && toMissed(missed);
    if (!missed || !answer) return;
    // The answer covers everything that earlier heartbeats spoke of.
    this.#heads = { chats: new Map(), own: 0 };
    this.#cursor = undefined;
    await this.#options.store.putMissed(answer, missed.cursor);
    this.#whole = true;
    this.#repair();
    void this.#list();
  }

  async #onHeartbeat({ heartbeat }: Extract<News, { kind: 'heartbeat' }>): Promise<void> {
    // A heartbeat without a cursor says only that the server is there.
    if (!this.#whole || heartbeat.cursor.length === 0) return;
    const heads = toHeads(heartbeat);
    for (const [id, seq] of heads.chats) this.#heads.chats.set(id, Math.max(seq, this.#heads.chats.get(id) ?? 0));
    this.#heads.own = Math.max(this.#heads.own, heads.own);
    this.#cursor = heartbeat.cursor;
    if (await this.#adopt()) return;
    await this.#options.store.noteHeads(this.#heads);
    this.#repair();
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

  // Reading what was lost

  #repair(): void {
    this.#repairAgain = true;
    if (this.#repairing) return;
    this.#repairing = true;
    void this.#repairAll();
  }

  async #repairAll(): Promise<void> {
    while (this.#repairAgain && !this.#stopped) {
      this.#repairAgain = false;
      try {
        for (;;) {
          const lacking = await this.#options.store.lacking();
          if (lacking.chats.length + lacking.unknown.length === 0 && lacking.own === undefined) break;
          await this.#readLacking(lacking);
        }
        await this.#adopt();
      } catch (trouble) {
        // Without a connection there is nothing to do: the next answer or heartbeat brings us back here.
        if (!(trouble instanceof CallFailed) && !this.#stopped) this.#options.onTrouble(trouble);
        break;
      }
    }
    this.#repairing = false;
  }

  async #readLacking(lacking: Lacking): Promise<void> {
    const { store, carrier } = this.#options;
    if (lacking.own !== undefined) {
      const answer = await call(carrier, ChatsService.method.listUserEvents, {
        afterSeq: BigInt(lacking.own),
        limit: READ_EVENTS,
      });
      const head = Number(answer.head);
      const last = answer.events.at(-1);
      const own = answer.events.map((event, i) => toOwn(answer.events[i - 1]?.seq ?? BigInt(lacking.own ?? 0), event));
      await store.putOwnPage(own, head, !last || Number(last.seq) >= head);
    }
    for (const id of lacking.unknown) {
      await this.#orGone(id, async () => {
        const { chat } = await call(carrier, ChatsService.method.getChat, { chatId: BigInt(id) });
        if (chat) await store.putChats([toChat(chat)]);
      });
    }
    const unknown = new Set(lacking.unknown);
    for (const { id, synced, head } of lacking.chats) {
      if (unknown.has(id)) continue;
      await this.#orGone(id, () => this.#fill(id, synced, head));
    }
  }

  async #fill(id: ChatId, synced: number, head: number): Promise<void> {
    const { store, carrier } = this.#options;
    if (head - synced <= REPAIR_EVENTS_MAX) {
      const page = await fetchPage(store, carrier, id, { kind: 'after', seq: synced, limit: READ_EVENTS });
      // Nothing there: what was promised belongs to no log that we can read.
      if (page.events.length === 0) await store.defer(id, head);
      return;
    }
    await fetchPage(store, carrier, id, { kind: 'before', seq: 0, limit: PAGE_EVENTS });
    await store.defer(id, head);
  }

  async #orGone(id: ChatId, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      if (!(thrown instanceof CallFailed) || thrown.reason !== Reason.CHAT_NOT_FOUND) throw thrown;
      await this.#options.store.forget(id);
    }
  }

  /** Reads the list of chats to its end, from where it was left. */
  async #list(): Promise<void> {
    if (this.#listing) return;
    this.#listing = true;
    const { store, carrier } = this.#options;
    try {
      for (let token = await store.listToken(); token !== undefined; ) {
        const answer = await call(carrier, ChatsService.method.listChats, { limit: LIST_CHATS, pageToken: token });
        token = answer.nextPageToken || undefined;
        await store.putChats(answer.chats.map(toChat), token ?? null);
      }
    } catch (thrown) {
      if (thrown instanceof CallFailed && thrown.reason === Reason.BAD_CURSOR) await store.putChats([], '');
      else if (!(thrown instanceof CallFailed) && !this.#stopped) this.#options.onTrouble(thrown);
    } finally {
      this.#listing = false;
    }
  }
}
