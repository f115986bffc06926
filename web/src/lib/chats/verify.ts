// Compares what is held of a chat with the server's log by digests, and reads again what differs.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { call, type Carrier } from '../api/call';
import type { ChatId } from '../api/ids';
import { canDigest, digest, isKnown } from './digest';
import { toEvent, type Event } from './model';
import type { ChatStore } from './store';

/** What came of it, in events. What can not be judged now is in neither. */
export interface Verified {
  compared: number;
  /** Those among them that were read again. */
  healed: number;
}

/** How many events are compared by one call. */
const COMPARED_AT_ONCE = 5_000;
const READ_EVENTS = 500;
/** How often a part is read that changes meanwhile. */
const TRIES_MAX = 3;

export async function verify(store: ChatStore, carrier: Carrier, id: ChatId): Promise<Verified> {
  const verified = { compared: 0, healed: 0 };
  const chat = await store.chat(id);
  if (!chat || chat.left || chat.unknown || !canDigest()) return verified;
  for (const part of chat.parts.filter((part) => part.trueAt >= chat.tip)) {
    for (let from = part.from; from <= part.to; from += COMPARED_AT_ONCE) {
      const to = Math.min(part.to, from + COMPARED_AT_ONCE - 1);
      const answer = await call(carrier, ChatsService.method.getDigests, { chatId: BigInt(id), fromSeq: BigInt(from), toSeq: BigInt(to) });
      for (const told of answer.digests) {
        const [first, last] = [Number(told.fromSeq), Number(told.toSeq)];
        const held = await store.trueAt(id, first, last, Number(answer.head));
        if (!held?.every((event) => isKnown(event) && isAsOf(event, Number(answer.head)))) continue;
        verified.compared += last - first + 1;
        if (alike(await digest(held), told.digest)) continue;
        verified.healed += await heal(store, carrier, id, first, last);
      }
    }
  }
  return verified;
}

/** Whether an event is as it was at a head: what was changed later says nothing about it. */
const isAsOf = ({ message }: Event, head: number) => !message || message.changedSeq <= head;

const alike = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Puts what the server has in the place of what is held; says of how many events. */
async function heal(store: ChatStore, carrier: Carrier, id: ChatId, from: number, to: number): Promise<number> {
  let after = from - 1;
  for (let tries = 0; after < to && tries < TRIES_MAX; ) {
    const limit = Math.min(READ_EVENTS, to - after);
    const answer = await call(carrier, ChatsService.method.listEvents, { chatId: BigInt(id), from: { case: 'afterSeq', value: BigInt(after) }, limit });
    const events = answer.events.map(toEvent);
    const last = events.at(-1)?.seq ?? after;
    if (last > after && (await store.heal(id, { from: after + 1, to: last }, events, Number(answer.head)))) {
      after = last;
      tries = 0;
    } else tries += 1;
  }
  return after - from + 1;
}
