// What the wire says about chats, in our words.

import type { UserEvent } from '../../gen/tertulia/chats/v1/chats_pb';
import type { Heartbeat, Missed } from '../../gen/tertulia/live/v1/live_pb';
import { chatId } from '../api/ids';
import { toChat, toEvent } from './model';
import type { Heads, MissedAnswer, OwnLogEvent } from './store';

export function toOwn(prev: bigint, event: UserEvent): OwnLogEvent {
  const own: OwnLogEvent = { prev: Number(prev), seq: Number(event.seq) };
  if (event.body.case === 'chatJoined' && event.body.value.chat) own.chat = toChat(event.body.value.chat);
  return own;
}

/** Undefined when the answer is of a kind that this client does not know. */
export function toMissed(missed: Missed): MissedAnswer | undefined {
  const { answer } = missed;
  switch (answer.case) {
    case 'delta':
      return {
        kind: 'delta',
        own: answer.value.ownEvents.map((event) => toOwn(event.seq - 1n, event)),
        events: answer.value.events.map(toEvent),
      };
    case 'changed':
      return { kind: 'changed', chats: answer.value.chats.map(toChat), ownHead: Number(answer.value.ownHead) };
    case 'reset':
      return {
        kind: 'reset',
        chats: answer.value.chats.map(toChat),
        more: answer.value.more,
        ownHead: Number(answer.value.ownHead),
        epoch: answer.value.epoch,
      };
    case undefined:
      return undefined;
  }
}

export function toHeads(heartbeat: Heartbeat): Heads {
  const chats = new Map(heartbeat.heads.map((head) => [chatId(head.chatId), Number(head.seq)]));
  return { chats, own: Number(heartbeat.ownHead) };
}
