// Reads parts of logs: from what is held, else from the server, which is then held too.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { call, type Carrier } from '../api/call';
import type { ChatId } from '../api/ids';
import { toEvent, type Event } from './model';
import type { ChatStore } from './store';
import type { PageRequest } from './timeline';

export interface Page {
  events: Event[];
  head: number;
}

export async function readPage(store: ChatStore, carrier: Carrier, id: ChatId, request: PageRequest): Promise<Page> {
  return (await store.page(id, request)) ?? (await fetchPage(store, carrier, id, request));
}

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
