// What the wire says about logs, in our words.

import type { UserEvent } from '../../gen/tertulia/chats/v1/model_pb';
import type { Heartbeat, Missed } from '../../gen/tertulia/live/v1/live_pb';
import { chatId, userId, type ChatId } from '../api/ids';
import { toChat, toDraft, toEvent, toRead, toScheduled, toSettings, type OwnAct } from './model';
import type { Heads, MissedAnswer, OwnEvent } from './store';

export function toOwn(prev: bigint, event: UserEvent): OwnEvent {
  const act = toOwnAct(event.body);
  return { prev: Number(prev), seq: Number(event.seq), ...(act && { act }) };
}

function toOwnAct(body: UserEvent['body']): OwnAct | undefined {
  switch (body.case) {
    case 'chatJoined':
      return body.value.chat && { kind: 'joined', chat: toChat(body.value.chat) };
    case 'chatLeft':
      return { kind: 'left', chatId: chatId(body.value.chatId), reason: body.value.reason, by: userId(body.value.by) };
    case 'readMoved':
      return { kind: 'read', chatId: chatId(body.value.chatId), read: toRead(body.value.read) };
    case 'settingsChanged':
      return { kind: 'settings', chatId: chatId(body.value.chatId), settings: toSettings(body.value.settings) };
    case 'draftChanged': {
      const draft = toDraft(body.value.draft);
      return { kind: 'draft', chatId: chatId(body.value.chatId), ...(draft && { draft }) };
    }
    case 'messagesHidden':
      return { kind: 'hidden', chatId: chatId(body.value.chatId), targets: body.value.messageSeqs.map(Number) };
    case 'scheduleChanged': {
      const { scheduledId, scheduled } = body.value;
      return { kind: 'scheduled', id: scheduledId.toString(), ...(scheduled && { scheduled: toScheduled(scheduled) }) };
    }
    case undefined:
      return undefined;
  }
}

/** Undefined when the answer is of a kind that this client does not know. */
export function toMissed({ answer }: Missed): MissedAnswer | undefined {
  switch (answer.case) {
    case 'delta':
      return {
        kind: 'delta',
        own: answer.value.ownEvents.map((event) => toOwn(event.seq - 1n, event)),
        events: answer.value.events.map(toEvent),
      };
    case 'changed':
      return { kind: 'changed', chats: answer.value.chats.map(toChat), ownHead: Number(answer.value.ownHead) };
    case 'reset': {
      const { chats, more, ownHead, epoch } = answer.value;
      return { kind: 'reset', chats: chats.map(toChat), more, ownHead: Number(ownHead), epoch };
    }
    case undefined:
      return undefined;
  }
}

/** Up to where an answer speaks. */
export function headsOf(answer: MissedAnswer): Heads {
  const chats = new Map<ChatId, number>();
  const note = (id: ChatId, seq: number) => chats.set(id, Math.max(seq, chats.get(id) ?? 0));
  if (answer.kind === 'delta') {
    for (const event of answer.events) note(event.chatId, event.seq);
    return { chats, own: answer.own.at(-1)?.seq ?? 0 };
  }
  for (const chat of answer.chats) note(chat.id, chat.head);
  return { chats, own: answer.ownHead };
}

export function toHeads(heartbeat: Heartbeat): Heads {
  const chats = new Map(heartbeat.heads.map((head) => [chatId(head.chatId), Number(head.seq)]));
  return { chats, own: Number(heartbeat.ownHead) };
}
