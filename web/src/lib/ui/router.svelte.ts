// Where the person is: the list, or a chat. In the fragment, so that a server needs to know nothing of it.

import type { ChatId } from '../api/ids';

export class Router {
  #chatId = $state<ChatId | undefined>(read());
  #inside = false;

  constructor() {
    addEventListener('hashchange', () => (this.#chatId = read()));
  }

  /** The open chat. */
  get chatId(): ChatId | undefined {
    return this.#chatId;
  }

  hrefOf(id: ChatId): string {
    return `#/chats/${id}`;
  }

  open(id: ChatId): void {
    if (id === this.#chatId) return;
    this.#inside = true;
    location.hash = this.hrefOf(id);
    this.#chatId = id;
  }

  /** To the list; as the back button does when we came from there. */
  close(): void {
    this.#chatId = undefined;
    if (this.#inside) {
      this.#inside = false;
      history.back();
    } else {
      history.replaceState(null, '', '#/');
    }
  }
}

function read(): ChatId | undefined {
  return /^#\/chats\/(\d+)$/.exec(location.hash)?.[1] as ChatId | undefined;
}
