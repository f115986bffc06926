// Reads parts of logs from the server, and stores them.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { MessagesService } from '../../gen/tertulia/chats/v1/messages_pb';
import { call, type Carrier } from '../api/call';
import type { ChatId } from '../api/ids';
import type { PageRequest } from './log';
import { toEvent, type Event } from './model';
import type { Part } from './parts';
import type { ChatStore } from './store';

export interface Page {
  events: Event[];
  /** The messages are true up to here. */
  head: number;
}

const CHANGES_AT_ONCE = 500;
const NAMED_MESSAGES_MAX = 100;
const THREAD_AT_ONCE = 200;

export async function fetchPage(store: ChatStore, carrier: Carrier, id: ChatId, request: PageRequest): Promise<Page> {
  const seq = BigInt(request.seq);
  const answer = await call(carrier, ChatsService.method.listEvents, {
    chatId: BigInt(id),
    from: request.kind === 'after' ? { case: 'afterSeq', value: seq } : { case: 'beforeSeq', value: seq },
    limit: request.limit,
  });
  const page = { events: answer.events.map(toEvent), head: Number(answer.head) };
  await store.putPage(id, request, page.events, page.head);
  return page;
}

/** Brings an old part up to date: what was changed since it was true, page by page. */
export async function refreshPart(store: ChatStore, carrier: Carrier, id: ChatId, part: Part): Promise<void> {
  for (let after = part.trueAt; ; ) {
    const answer = await call(carrier, ChatsService.method.listChanges, {
      chatId: BigInt(id),
      fromSeq: BigInt(part.from),
      toSeq: BigInt(part.to),
      afterSeq: BigInt(after),
      limit: CHANGES_AT_ONCE,
    });
    const page = { events: answer.events.map(toEvent), through: Number(answer.throughSeq), more: answer.more };
    await store.putChanges(id, part, page);
    if (!page.more || page.through <= after) return;
    after = page.through;
  }
}

/** Messages by their seqs, as they are now; not stored. */
export async function fetchMessages(carrier: Carrier, id: ChatId, seqs: readonly number[]): Promise<Page> {
  const messageSeqs = [...new Set(seqs)].slice(0, NAMED_MESSAGES_MAX).map(BigInt);
  const answer = await call(carrier, MessagesService.method.getMessages, { chatId: BigInt(id), messageSeqs });
  return { events: answer.events.map(toEvent), head: Number(answer.head) };
}

/** A whole thread, read to its end; not stored. */
export async function fetchThread(carrier: Carrier, id: ChatId, threadSeq: number): Promise<Page> {
  const events: Event[] = [];
  let head = 0;
  for (let after = 0; ; after = events.at(-1)?.seq ?? after) {
    const answer = await call(carrier, MessagesService.method.listThread, {
      chatId: BigInt(id),
      threadSeq: BigInt(threadSeq),
      afterSeq: BigInt(after),
      limit: THREAD_AT_ONCE,
    });
    events.push(...answer.events.map(toEvent));
    // The first answer is the oldest: everything after its head comes as it happens.
    head ||= Number(answer.head);
    if (!answer.more || answer.events.length === 0) return { events, head };
  }
}
