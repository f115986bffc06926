// Tells the server how far chats have come and how far they were read, gathered: at most once a second.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { call, type Carrier } from '../api/call';
import { CallFailed } from '../api/failure';
import { toRead } from './model';
import type { ChatStore } from './store';

export const MARK_EVERY_MS = 1000;
const DELIVERED_MAX = 200;

export interface MarksOptions {
  store: ChatStore;
  carrier: Carrier;
  /** Whether calls can be made now; when that changes to yes, somebody calls `wake`. */
  online(): boolean;
  onTrouble(trouble: unknown): void;
  now?: () => number;
  setTimeout?: (run: () => void, ms: number) => unknown;
}

export class Marks {
  #options: MarksOptions;
  #lastAt = -Infinity;
  #timer = false;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(options: MarksOptions) {
    this.#options = options;
  }

  /** There may be something to tell. */
  wake(): void {
    if (this.#timer || this.#stopped) return;
    this.#timer = true;
    const { now = Date.now, setTimeout: after = setTimeout } = this.#options;
    after(() => {
      this.#timer = false;
      this.#lastAt = now();
      this.#running = this.#tell().catch((trouble: unknown) => this.#onFailed(trouble));
    }, Math.max(0, this.#lastAt + MARK_EVERY_MS - now()));
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Resolves when nothing is being told. */
  async idle(): Promise<void> {
    await this.#running;
  }

  async #tell(): Promise<void> {
    const { store, carrier, online } = this.#options;
    if (this.#stopped || !online()) return;
    for (const { id, seq } of await store.unmarked()) {
      try {
        const { read } = await call(carrier, ChatsService.method.markRead, { chatId: BigInt(id), seenSeq: BigInt(seq) });
        await store.marked(id, seq, toRead(read));
      } catch (thrown) {
        if (!(thrown instanceof CallFailed) || thrown.retryable || thrown.needsFreshToken) throw thrown;
        await store.marked(id, seq);
      }
    }
    const news = await store.undelivered(DELIVERED_MAX);
    if (news.length === 0) return;
    const delivered = news.map(({ id, seq }) => ({ chatId: BigInt(id), seq: BigInt(seq) }));
    await call(carrier, ChatsService.method.markDelivered, { delivered });
    await store.delivered(news);
    if (news.length === DELIVERED_MAX) this.wake();
  }

  #onFailed(thrown: unknown): void {
    // What was not told stays, and is told with the next news or when the connection is back.
    if (!(thrown instanceof CallFailed) && !this.#stopped) this.#options.onTrouble(thrown);
  }
}
