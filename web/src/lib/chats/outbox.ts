// Sends what the outbox holds: one tab at a time, of one chat in order, with the same client message id
// until the server has it or says that it never will.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { call, type Carrier } from '../api/call';
import { CallFailed } from '../api/failure';
import { messageId, type ChatId } from '../api/ids';
import { backoff } from '../live/backoff';
import type { Unsent } from './model';
import type { ChatStore } from './store';

/** Chats that are sent to at once. */
const CHATS_AT_ONCE = 6;

export interface OutboxOptions {
  store: ChatStore;
  carrier: Carrier;
  /** Whether calls can be made now; when that changes to yes, somebody calls `wake`. */
  online(): boolean;
  /** Runs work in one tab at a time. */
  alone(work: () => Promise<void>): Promise<void>;
  onTrouble(trouble: unknown): void;
  random?: () => number;
  setTimeout?: (run: () => void, ms: number) => unknown;
}

export class Outbox {
  #options: OutboxOptions;
  #running: Promise<void> | undefined;
  #again = false;
  #stopped = false;
  #failures = 0;
  #timer = false;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Something was written, or the connection is back. */
  wake(): void {
    this.#again = true;
    this.#running ??= this.#run();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Resolves when nothing is being sent. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    while (this.#again && !this.#stopped && this.#options.online()) {
      this.#again = false;
      try {
        await this.#options.alone(() => this.#drain());
      } catch (trouble) {
        if (!this.#stopped) this.#options.onTrouble(trouble);
        break;
      }
    }
    this.#running = undefined;
  }

  async #drain(): Promise<void> {
    const waiting = (await this.#options.store.unsent()).filter((unsent) => unsent.state === 'waiting');
    const chats = [...new Set(waiting.map((unsent) => unsent.chatId))];
    const lanes = Array.from({ length: Math.min(CHATS_AT_ONCE, chats.length) }, async () => {
      for (let id = chats.shift(); id !== undefined; id = chats.shift()) await this.#drainChat(id);
    });
    await Promise.all(lanes);
  }

  /** Sends a chat's messages one after another; stops at the first that must be tried again later. */
  async #drainChat(id: ChatId): Promise<void> {
    for (;;) {
      if (this.#stopped || !this.#options.online()) return;
      // Read anew each time: another message may have been written or taken back meanwhile.
      const next = (await this.#options.store.unsentOf(id)).find((unsent) => unsent.state === 'waiting');
      if (!next || !(await this.#send(next))) return;
    }
  }

  async #send(unsent: Unsent): Promise<boolean> {
    const { store, carrier } = this.#options;
    try {
      const { seq, messageId: id, atMs } = await call(carrier, ChatsService.method.sendMessage, {
        chatId: BigInt(unsent.chatId),
        clientMessageId: unsent.clientMessageId,
        text: unsent.text,
      });
      this.#failures = 0;
      await store.acknowledged(unsent, { seq: Number(seq), messageId: messageId(id), atMs: Number(atMs) });
      return true;
    } catch (thrown) {
      if (!(thrown instanceof CallFailed)) throw thrown;
      if (thrown.retryable || thrown.needsFreshToken || thrown.signedOut) {
        this.#later(thrown.retryAfterMs);
        return false;
      }
      await store.refused(unsent, thrown.reason);
      return true;
    }
  }

  #later(afterMs: number): void {
    if (this.#timer) return;
    this.#timer = true;
    const { random = Math.random, setTimeout: after = setTimeout } = this.#options;
    const wait = afterMs + backoff(this.#failures, random);
    this.#failures += 1;
    after(() => {
      this.#timer = false;
      this.wake();
    }, wait);
  }
}
