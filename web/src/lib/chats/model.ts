// The nouns of chats, and how the wire's become ours.

import type { Chat as WireChat, Event as WireEvent } from '../../gen/tertulia/chats/v1/chats_pb';
import { chatId, messageId, userId, type ChatId, type MessageId, type UserId } from '../api/ids';
import type { Range } from './ranges';

/** One entry of a chat's log. */
export interface Event {
  chatId: ChatId;
  /** From 1, without holes. A number is enough: nobody says 2^53 things. */
  seq: number;
  atMs: number;
  actorId: UserId;
  /** Missing when this client is too old to know what happened. */
  message?: Message;
}

/** Something said. */
export interface Message {
  messageId: MessageId;
  text: string;
  clientMessageId: string;
  deviceId: string;
}

/** A chat as it is stored here. */
export interface Chat {
  id: ChatId;
  memberIds: UserId[];
  createdAtMs: number;
  /** The newest seq that is known to exist. */
  head: number;
  /** Up to here nothing was lost: each event is held, or was left to be read when it is needed. */
  synced: number;
  /** The seqs whose events are held. */
  ranges: Range[];
  last?: Event;
  /** How far the person has read on this browser. */
  seen: number;
  /** When something last happened; the list is in this order. */
  activeAtMs: number;
  /** 1 when only an event told of this chat and its members are not known yet. */
  unknown: 0 | 1;
}

/** A message that is not acknowledged yet. */
export interface Unsent {
  /** Its place in the outbox. */
  order: number;
  clientMessageId: string;
  chatId: ChatId;
  text: string;
  atMs: number;
  state: 'waiting' | 'failed';
  /** Why it failed; a Reason of the catalogue. */
  reason?: number;
}

export function toEvent(wire: WireEvent): Event {
  const event: Event = {
    chatId: chatId(wire.chatId),
    seq: Number(wire.seq),
    atMs: Number(wire.atMs),
    actorId: userId(wire.actorId),
  };
  if (wire.body.case === 'message') {
    const { messageId: id, text, clientMessageId, deviceId } = wire.body.value;
    event.message = { messageId: messageId(id), text, clientMessageId, deviceId };
  }
  return event;
}

/** A chat as the server tells it. */
export type ToldChat = Pick<Chat, 'id' | 'memberIds' | 'createdAtMs' | 'head'> & { last?: Event };

export function toChat(wire: WireChat): ToldChat {
  const chat: ToldChat = {
    id: chatId(wire.chatId),
    memberIds: wire.memberIds.map(userId),
    createdAtMs: Number(wire.createdAtMs),
    head: Number(wire.head),
  };
  if (wire.lastEvent) chat.last = toEvent(wire.lastEvent);
  return chat;
}
