// The list of chats and the count of unsent messages, as they are stored.

import type { ChatId, UserId } from '../api/ids';
import type { Chat, Unsent } from './model';
import { soon } from './soon';
import type { ChatStore } from './store';

export class ChatList {
  #chats = $state.raw<Chat[]>([]);
  #unsent = $state.raw<Unsent[]>([]);
  #loaded = $state(false);
  #end: () => void;

  constructor(store: ChatStore, onTrouble: (trouble: unknown) => void) {
    const refresh = soon(async () => {
      [this.#chats, this.#unsent] = await Promise.all([store.chats(), store.unsent()]);
      this.#loaded = true;
    }, onTrouble);
    this.#end = store.changes.subscribe(refresh);
    refresh();
  }

  /** Newest first. */
  get chats(): readonly Chat[] {
    return this.#chats;
  }

  get loaded(): boolean {
    return this.#loaded;
  }

  /** Messages that wait to be sent. */
  get waiting(): number {
    return this.#unsent.filter((unsent) => unsent.state === 'waiting').length;
  }

  /** The newest message of a chat that is not sent yet. */
  unsentOf(id: ChatId): Unsent | undefined {
    return this.#unsent.findLast((unsent) => unsent.chatId === id);
  }

  get unread(): number {
    return this.#chats.filter((chat) => chat.head > chat.seen).length;
  }

  stop(): void {
    this.#end();
  }
}

/** The other one of a direct chat. */
export function otherOf(chat: Pick<Chat, 'memberIds'>, me: UserId): UserId | undefined {
  return chat.memberIds.find((id) => id !== me) ?? chat.memberIds[0];
}
