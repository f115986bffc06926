// The tables of the browser, one database for each user.

import { Dexie, type Table } from 'dexie';
import type { ChatId, UserId } from '../api/ids';
import type { Chat } from './log';
import type { Event, Receipt, Scheduled, Unsent } from './model';

/** What the person began to write; `dirty` when the server does not know it yet. */
export interface HeldDraft {
  chatId: ChatId;
  text: string;
  replyTo: number;
  atMs: number;
  dirty: boolean;
}

export interface HeldReceipts {
  chatId: ChatId;
  receipts: Map<UserId, Receipt>;
}

export class Database extends Dexie {
  declare chats: Table<Chat, ChatId>;
  declare events: Table<Event, [ChatId, number]>;
  declare outbox: Table<Unsent, number, Omit<Unsent, 'order'>>;
  declare drafts: Table<HeldDraft, ChatId>;
  declare receipts: Table<HeldReceipts, ChatId>;
  declare scheduled: Table<Scheduled, string>;
  declare meta: Table<{ key: string; value: unknown }, string>;

  constructor(name: string) {
    super(name);
    this.version(1).stores({
      chats: 'id, activeAtMs, unknown',
      events: '[chatId+seq]',
      outbox: '++order, &clientMessageId, chatId, state',
      meta: 'key',
    });
    // What is held is another thing than in the first version, and is read anew; what was not sent stays.
    this.version(2)
      .stores({
        outbox: '++order, &clientMessageId, chatId, state, [chatId+state]',
        drafts: 'chatId',
        receipts: 'chatId',
        scheduled: 'id, sendAtMs',
      })
      .upgrade(async (tx) => {
        for (const name of ['chats', 'events', 'meta']) await tx.table(name).clear();
        await tx.table('outbox').toCollection().modify({ replyTo: 0, threadSeq: 0 });
      });
  }
}
