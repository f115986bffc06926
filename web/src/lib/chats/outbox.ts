// Sends what the outbox holds: one tab at a time, of one chat in order, with the same client message id
// until the server has it or says that it never will.

import { MessagesService } from '../../gen/tertulia/chats/v1/messages_pb';
import { call, type Carrier } from '../api/call';
import { CallFailed } from '../api/failure';
import type { ChatId } from '../api/ids';
import { backoff } from '../live/backoff';
import { hasHole } from './log';
import { fromMentions, type Unsent } from './model';
import type { ChatStore } from './store';

/** Chats that are sent to at once. */
const CHATS_AT_ONCE = 6;

export interface OutboxOptions {
  store: ChatStore;
  carrier: Carrier;
  /** Calls can be made, and what was missed is stored; when that changes to yes, somebody calls `wake`. */
  ready(): boolean;
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

  /** Something was written, the connection is back, or a hole was closed. */
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
    while (this.#again && !this.#stopped && this.#options.ready()) {
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
      if (this.#stopped || !this.#options.ready()) return;
      // Read anew each time: another message may have been written or taken back meanwhile.
      const next = await this.#options.store.nextUnsent(id);
      if (!next || (next.tried && (await this.#mayBeThere(id))) || !(await this.#send(next))) return;
    }
  }

  /** Its event may be in what is not held yet; closing the hole tells. */
  async #mayBeThere(id: ChatId): Promise<boolean> {
    const chat = await this.#options.store.chat(id);
    return chat !== undefined && (chat.unknown === 1 || hasHole(chat));
  }

  async #send(unsent: Unsent): Promise<boolean> {
    const { store, carrier } = this.#options;
    try {
      await store.trying(unsent);
      const answer = await call(carrier, MessagesService.method.sendMessage, {
        chatId: BigInt(unsent.chatId),
        clientMessageId: unsent.clientMessageId,
        text: unsent.text,
        replyToSeq: BigInt(unsent.replyTo),
        threadSeq: BigInt(unsent.threadSeq),
        ...fromMentions(unsent.mentions),
      });
      this.#failures = 0;
      await store.acknowledged(unsent, Number(answer.seq), Number(answer.atMs));
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
