// Where the person is: the list, a chat, something beside it, or an invite. In the fragment, so that a server
// needs to know nothing of it.

import type { ChatId } from '../api/ids';

/** What stands beside a conversation. */
export type Panel = { kind: 'info' } | { kind: 'thread'; seq: number };

export interface Place {
  chatId?: ChatId;
  panel?: Panel;
  /** The code of an invite. */
  invite?: string;
}

export class Router {
  #place = $state.raw<Place>(read());
  /** How many steps back are ours. */
  #inside = 0;

  constructor() {
    addEventListener('hashchange', () => (this.#place = read()));
  }

  /** The open chat. */
  get chatId(): ChatId | undefined {
    return this.#place.chatId;
  }

  get panel(): Panel | undefined {
    return this.#place.panel;
  }

  get invite(): string | undefined {
    return this.#place.invite;
  }

  hrefOf(id: ChatId): string {
    return `#/chats/${id}`;
  }

  open(id: ChatId): void {
    if (id !== this.chatId || this.panel) this.#go({ chatId: id });
  }

  /** Shows something beside the open chat. */
  beside(panel: Panel): void {
    if (this.chatId) this.#go({ chatId: this.chatId, panel });
  }

  /** One step out: from the panel to the chat, from the chat to the list; as the back button does. */
  close(): void {
    const { chatId, panel } = this.#place;
    const outer: Place = panel && chatId ? { chatId } : {};
    this.#place = outer;
    if (this.#inside > 0) {
      this.#inside -= 1;
      history.back();
    } else history.replaceState(null, '', write(outer));
  }

  /** To a place that takes the place of this one. */
  replace(place: Place): void {
    history.replaceState(null, '', write(place));
    this.#place = place;
  }

  #go(place: Place): void {
    this.#inside += 1;
    location.hash = write(place);
    this.#place = place;
  }
}

function write({ chatId, panel, invite }: Place): string {
  if (invite) return `#/join/${invite}`;
  if (!chatId) return '#/';
  const beside = panel ? (panel.kind === 'info' ? '/info' : `/thread/${panel.seq}`) : '';
  return `#/chats/${chatId}${beside}`;
}

function read(): Place {
  const invite = /^#\/join\/([A-Za-z0-9_-]{16,64})$/.exec(location.hash)?.[1];
  if (invite) return { invite };
  const [, id, rest] = /^#\/chats\/(\d+)(?:\/(info|thread\/\d+))?$/.exec(location.hash) ?? [];
  if (!id) return {};
  const place: Place = { chatId: id as ChatId };
  if (rest === 'info') place.panel = { kind: 'info' };
  else if (rest) place.panel = { kind: 'thread', seq: Number(rest.slice('thread/'.length)) };
  return place;
}
