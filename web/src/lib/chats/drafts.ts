// What was begun and not sent: kept here at once, told to the server when the typing pauses.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { call, type Carrier } from '../api/call';
import { CallFailed } from '../api/failure';
import type { ChatId } from '../api/ids';
import type { ChatStore } from './store';

/** How long a pause in typing is before the other devices hear of the draft. */
const PAUSE_MS = 1500;

export class Drafts {
  #store: ChatStore;
  #carrier: Carrier;
  #onTrouble: (trouble: unknown) => void;
  #timers = new Map<ChatId, ReturnType<typeof setTimeout>>();
  #stopped = false;

  constructor(store: ChatStore, carrier: Carrier, onTrouble: (trouble: unknown) => void) {
    this.#store = store;
    this.#carrier = carrier;
    this.#onTrouble = onTrouble;
  }

  /** Keeps what is typed. */
  async keep(id: ChatId, text: string, replyTo: number): Promise<void> {
    await this.#store.putDraft({ chatId: id, text, replyTo, atMs: Date.now(), dirty: true });
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => void this.tell(id), PAUSE_MS));
  }

  /** Tells the server what is kept, now. */
  async tell(id: ChatId): Promise<void> {
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    try {
      const draft = await this.#store.draft(id);
      if (!draft?.dirty || this.#stopped) return;
      const { text, replyTo } = draft;
      await call(this.#carrier, ChatsService.method.updateDraft, { chatId: BigInt(id), draft: { text, replyToSeq: BigInt(replyTo) } });
      const now = await this.#store.draft(id);
      // What was typed meanwhile is told by its own timer.
      if (now?.text === text && now.replyTo === replyTo) await this.#store.putDraft({ ...now, dirty: false });
    } catch (thrown) {
      // It stays marked, and is told when the connection is back.
      if (!(thrown instanceof CallFailed) && !this.#stopped) this.#onTrouble(thrown);
    }
  }

  /** The connection is back: what could not be told is told. */
  async wake(): Promise<void> {
    for (const draft of await this.#store.drafts()) if (draft.dirty && !this.#timers.has(draft.chatId)) await this.tell(draft.chatId);
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }
}
