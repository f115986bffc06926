// The list of chats, drafts, scheduled messages and the count of unsent ones, as they are stored.

import type { ChatId } from '../api/ids';
import type { HeldDraft } from './database';
import type { Chat } from './log';
import type { Scheduled, Unsent } from './model';
import { soon } from './soon';
import type { ChatStore } from './store';

export class ChatList {
  #chats = $state.raw<Chat[]>([]);
  #unsent = $state.raw<Unsent[]>([]);
  #drafts = $state.raw<ReadonlyMap<ChatId, HeldDraft>>(new Map());
  #scheduled = $state.raw<readonly Scheduled[]>([]);
  #loaded = $state(false);
  #end: () => void;
  #stopped = false;

  constructor(store: ChatStore, onTrouble: (trouble: unknown) => void) {
    const refresh = soon(
      async () => {
        const [chats, unsent, drafts, scheduled] = await Promise.all([store.chats(), store.unsent(), store.drafts(), store.scheduled()]);
        [this.#chats, this.#unsent, this.#scheduled] = [chats, unsent, scheduled];
        this.#drafts = new Map(drafts.map((draft) => [draft.chatId, draft]));
        this.#loaded = true;
      },
      (trouble) => !this.#stopped && onTrouble(trouble),
    );
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

  /** The newest message of a chat that its log does not show yet. */
  unsentOf(id: ChatId): Unsent | undefined {
    return this.#unsent.findLast((unsent) => unsent.chatId === id);
  }

  draftOf(id: ChatId): HeldDraft | undefined {
    const draft = this.#drafts.get(id);
    return draft?.text.trim() ? draft : undefined;
  }

  scheduledIn(id: ChatId): readonly Scheduled[] {
    return this.#scheduled.filter((scheduled) => scheduled.chatId === id);
  }

  /** Chats with something new, for the title of the window: not those that are muted or put away. */
  get unread(): number {
    const now = Date.now();
    return this.#chats.filter(({ unread, mentions, settings }) => {
      const quiet = settings.archived || settings.mutedUntilMs < 0 || settings.mutedUntilMs > now;
      return quiet ? mentions > 0 && !settings.archived : unread > 0 || settings.markedUnread;
    }).length;
  }

  stop(): void {
    this.#stopped = true;
    this.#end();
  }
}
