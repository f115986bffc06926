// The nouns of chats, and how the wire's become ours.

import {
  ChatKind,
  Notify,
  Role,
  type Chat as WireChat,
  type ChatReceipts as WireReceipts,
  type ChatSettings as WireSettings,
  type Draft as WireDraft,
  type Event as WireEvent,
  type Invite as WireInvite,
  type Mentions as WireMentions,
  type Message as WireMessage,
  type ReadState as WireRead,
  type ScheduledMessage as WireScheduled,
} from '../../gen/tertulia/chats/v1/model_pb';
import { chatId, messageId, userId, type ChatId, type MessageId, type UserId } from '../api/ids';

export { ChatKind, Notify, Role };
export { DeletionReason, LeftReason } from '../../gen/tertulia/chats/v1/model_pb';

/** One entry of a chat's log. With neither a message nor an act this client is too old to know what happened. */
export interface Event {
  chatId: ChatId;
  /** From 1, without holes. A number is enough: nobody says 2^53 things. */
  seq: number;
  atMs: number;
  /** `0` when the server did it. */
  actorId: UserId;
  message?: Message;
  act?: Act;
}

/** Something said, as it is at `changedSeq`. */
export interface Message {
  messageId: MessageId;
  text: string;
  clientMessageId: string;
  deviceId: string;
  changedSeq: number;
  /** 0 when never. */
  editedAtMs: number;
  deletion?: { reason: number; by: UserId };
  /** The person deleted it for themselves. */
  hidden: boolean;
  /** The message that it answers; 0 for none. */
  replyTo: number;
  /** The message whose thread it belongs to; 0 for none. */
  threadSeq: number;
  forward?: { userId: UserId; atMs: number };
  mentions?: Mentions;
  /** In the order of their first use. */
  reactions: ReactionCount[];
  pinned: boolean;
  replyCount: number;
  /** 0 when there is none. */
  lastReplySeq: number;
  /** 0 for never. */
  expiresAtMs: number;
}

export interface ReactionCount {
  emoji: string;
  count: number;
  mine: boolean;
}

/** Whom a message calls by name. */
export interface Mentions {
  userIds: UserId[];
  everyone: boolean;
  /** All who have this role or a higher one. */
  role: Role;
}

/** What happened, when it was no message. */
export type Act =
  | { kind: 'edited'; target: number; text: string; mentions?: Mentions }
  | { kind: 'deleted'; targets: number[]; reason: number }
  | { kind: 'reacted' | 'unreacted'; target: number; emoji: string }
  | { kind: 'pinned' | 'unpinned'; target: number }
  | { kind: 'created'; title: string; userIds: UserId[]; memberCount: number }
  | { kind: 'changed'; title?: string; topic?: string; avatar?: string; ttlS?: number }
  | { kind: 'added'; userIds: UserId[]; role: Role; memberCount: number }
  | { kind: 'joined'; invitedBy: UserId; role: Role; memberCount: number }
  | { kind: 'left'; memberCount: number }
  | { kind: 'removed' | 'banned'; userId: UserId; memberCount: number }
  | { kind: 'unbanned'; userId: UserId }
  | { kind: 'role'; userId: UserId; role: Role };

/** What a chat is, the same for all its members. */
export interface Details {
  kind: ChatKind;
  /** Both members of a direct chat. */
  memberIds: UserId[];
  createdAtMs: number;
  title: string;
  topic: string;
  /** An emoji; empty when none was chosen. */
  avatar: string;
  /** For how many seconds a message stays that is sent now; 0 for ever. */
  ttlS: number;
  /** The seqs of pinned messages, the newest pin first. */
  pins: number[];
  memberCount: number;
  /** The seq of the newest event that changed members or roles. */
  membersSeq: number;
}

/** How far the person has read, and what is left, as the server said it. */
export interface ReadBase {
  seen: number;
  unread: number;
  mentions: number;
  /** The head that the two numbers are true for. */
  asOf: number;
}

export interface Settings {
  /** 0 when not muted, -1 for always. */
  mutedUntilMs: number;
  notify: Notify;
  archived: boolean;
  favorite: boolean;
  markedUnread: boolean;
}

/** An unfinished message. */
export interface Draft {
  text: string;
  replyTo: number;
  atMs: number;
}

/** What a chat is to the person. */
export interface Membership {
  role: Role;
  joinedAtMs: number;
  read: ReadBase;
  settings: Settings;
  draft?: Draft;
}

/** A chat as the server tells it, true at `head`. */
export interface ToldChat extends Details, Membership {
  id: ChatId;
  head: number;
  last?: Event;
}

/** How far a chat has reached a member; both only grow. */
export interface Receipt {
  delivered: number;
  seen: number;
}

/** One entry of the person's own log. */
export type OwnAct =
  | { kind: 'joined'; chat: ToldChat }
  | { kind: 'left'; chatId: ChatId; reason: number; by: UserId }
  | { kind: 'read'; chatId: ChatId; read: ReadBase }
  | { kind: 'settings'; chatId: ChatId; settings: Settings }
  | { kind: 'draft'; chatId: ChatId; draft?: Draft }
  | { kind: 'hidden'; chatId: ChatId; targets: number[] }
  | { kind: 'scheduled'; id: string; scheduled?: Scheduled };

/** A message to be sent later. */
export interface Scheduled {
  id: string;
  chatId: ChatId;
  sendAtMs: number;
  text: string;
  replyTo: number;
  threadSeq: number;
}

/** A message that the log does not show yet. */
export interface Unsent {
  /** Its place in the outbox. */
  order: number;
  clientMessageId: string;
  chatId: ChatId;
  text: string;
  replyTo: number;
  threadSeq: number;
  mentions?: Mentions;
  atMs: number;
  /** `sent` is acknowledged: it waits only for its event. */
  state: 'waiting' | 'failed' | 'sent';
  /** It was given to the server and no answer came, so its event may be in the log. */
  tried?: boolean;
  /** Its place in the log, once acknowledged. */
  seq?: number;
  /** Why it failed; a Reason of the catalogue. */
  reason?: number;
}

/** A way into a chat. */
export interface Invite {
  code: string;
  createdBy: UserId;
  createdAtMs: number;
  /** 0 for never. */
  expiresAtMs: number;
  /** 0 for any number. */
  usesMax: number;
  uses: number;
  role: Role;
}

export const NO_SETTINGS: Settings = { mutedUntilMs: 0, notify: Notify.UNSPECIFIED, archived: false, favorite: false, markedUnread: false };

export function toMentions(wire: WireMentions | undefined): Mentions | undefined {
  if (!wire || (wire.userIds.length === 0 && !wire.everyone && wire.role === Role.UNSPECIFIED)) return undefined;
  return { userIds: wire.userIds.map(userId), everyone: wire.everyone, role: wire.role };
}

export function fromMentions(mentions: Mentions | undefined) {
  if (!mentions) return {};
  return { mentions: { userIds: mentions.userIds.map(BigInt), everyone: mentions.everyone, role: mentions.role } };
}

function toMessage(wire: WireMessage): Message {
  const mentions = toMentions(wire.mentions);
  return {
    messageId: messageId(wire.messageId),
    text: wire.text,
    clientMessageId: wire.clientMessageId,
    deviceId: wire.deviceId,
    changedSeq: Number(wire.changedSeq),
    editedAtMs: Number(wire.editedAtMs),
    ...(wire.deletion && { deletion: { reason: wire.deletion.reason, by: userId(wire.deletion.by) } }),
    hidden: wire.hidden,
    replyTo: Number(wire.replyToSeq),
    threadSeq: Number(wire.threadSeq),
    ...(wire.forward && { forward: { userId: userId(wire.forward.userId), atMs: Number(wire.forward.atMs) } }),
    ...(mentions && { mentions }),
    reactions: wire.reactions.map(({ emoji, count, mine }) => ({ emoji, count, mine })),
    pinned: wire.pinned,
    replyCount: wire.replyCount,
    lastReplySeq: Number(wire.lastReplySeq),
    expiresAtMs: Number(wire.expiresAtMs),
  };
}

function toAct(body: WireEvent['body']): Act | undefined {
  switch (body.case) {
    case 'messageEdited': {
      const mentions = toMentions(body.value.mentions);
      return { kind: 'edited', target: Number(body.value.messageSeq), text: body.value.text, ...(mentions && { mentions }) };
    }
    case 'messagesDeleted':
      return { kind: 'deleted', targets: body.value.messageSeqs.map(Number), reason: body.value.reason };
    case 'reactionAdded':
    case 'reactionRemoved': {
      const { messageSeq, emoji } = body.value;
      return { kind: body.case === 'reactionAdded' ? 'reacted' : 'unreacted', target: Number(messageSeq), emoji };
    }
    case 'pinned':
    case 'unpinned':
      return { kind: body.case, target: Number(body.value.messageSeq) };
    case 'chatCreated': {
      const { title, memberIds, memberCount } = body.value;
      return { kind: 'created', title, userIds: memberIds.map(userId), memberCount };
    }
    case 'chatChanged': {
      const { title, topic, avatar, messageTtlS } = body.value;
      return {
        kind: 'changed',
        ...(title !== undefined && { title }),
        ...(topic !== undefined && { topic }),
        ...(avatar !== undefined && { avatar }),
        ...(messageTtlS !== undefined && { ttlS: Number(messageTtlS) }),
      };
    }
    case 'membersAdded': {
      const { userIds, role, memberCount } = body.value;
      return { kind: 'added', userIds: userIds.map(userId), role, memberCount };
    }
    case 'memberJoined': {
      const { invitedBy, role, memberCount } = body.value;
      return { kind: 'joined', invitedBy: userId(invitedBy), role, memberCount };
    }
    case 'memberLeft':
      return { kind: 'left', memberCount: body.value.memberCount };
    case 'memberRemoved':
    case 'memberBanned': {
      const { userId: who, memberCount } = body.value;
      return { kind: body.case === 'memberRemoved' ? 'removed' : 'banned', userId: userId(who), memberCount };
    }
    case 'memberUnbanned':
      return { kind: 'unbanned', userId: userId(body.value.userId) };
    case 'roleChanged':
      return { kind: 'role', userId: userId(body.value.userId), role: body.value.role };
    case 'message':
    case undefined:
      return undefined;
  }
}

export function toEvent(wire: WireEvent): Event {
  const act = toAct(wire.body);
  return {
    chatId: chatId(wire.chatId),
    seq: Number(wire.seq),
    atMs: Number(wire.atMs),
    actorId: userId(wire.actorId),
    ...(wire.body.case === 'message' && { message: toMessage(wire.body.value) }),
    ...(act && { act }),
  };
}

export function toRead(wire: WireRead | undefined): ReadBase {
  return {
    seen: Number(wire?.seenSeq ?? 0),
    unread: wire?.unread ?? 0,
    mentions: wire?.unreadMentions ?? 0,
    asOf: Number(wire?.asOfSeq ?? 0),
  };
}

export function toSettings(wire: WireSettings | undefined): Settings {
  if (!wire) return NO_SETTINGS;
  const { mutedUntilMs, notify, archived, favorite, markedUnread } = wire;
  return { mutedUntilMs: Number(mutedUntilMs), notify, archived, favorite, markedUnread };
}

export function toDraft(wire: WireDraft | undefined): Draft | undefined {
  return wire && { text: wire.text, replyTo: Number(wire.replyToSeq), atMs: Number(wire.atMs) };
}

export function toChat(wire: WireChat): ToldChat {
  const draft = toDraft(wire.membership?.draft);
  return {
    id: chatId(wire.chatId),
    kind: wire.kind,
    memberIds: wire.memberIds.map(userId),
    createdAtMs: Number(wire.createdAtMs),
    head: Number(wire.head),
    title: wire.title,
    topic: wire.topic,
    avatar: wire.avatar,
    ttlS: Number(wire.messageTtlS),
    pins: wire.pinnedSeqs.map(Number),
    memberCount: wire.memberCount,
    membersSeq: Number(wire.membersSeq),
    role: wire.membership?.role ?? Role.UNSPECIFIED,
    joinedAtMs: Number(wire.membership?.joinedAtMs ?? 0),
    read: toRead(wire.membership?.read),
    settings: toSettings(wire.membership?.settings),
    ...(draft && { draft }),
    ...(wire.lastMessage && { last: toEvent(wire.lastMessage) }),
  };
}

export function toScheduled(wire: WireScheduled): Scheduled {
  return {
    id: wire.scheduledId.toString(),
    chatId: chatId(wire.chatId),
    sendAtMs: Number(wire.sendAtMs),
    text: wire.text,
    replyTo: Number(wire.replyToSeq),
    threadSeq: Number(wire.threadSeq),
  };
}

export function toReceipts(wire: WireReceipts): { chatId: ChatId; receipts: Map<UserId, Receipt> } {
  const each = wire.receipts.map((r) => [userId(r.userId), { delivered: Number(r.deliveredSeq), seen: Number(r.seenSeq) }] as const);
  return { chatId: chatId(wire.chatId), receipts: new Map(each) };
}

export function toInvite(wire: WireInvite): Invite {
  return {
    code: wire.code,
    createdBy: userId(wire.createdBy),
    createdAtMs: Number(wire.createdAtMs),
    expiresAtMs: Number(wire.expiresAtMs),
    usesMax: wire.usesMax,
    uses: wire.uses,
    role: wire.role,
  };
}

/** Whether a message calls somebody by name. */
export function mentionsUser(mentions: Mentions | undefined, user: UserId, role: Role): boolean {
  if (!mentions) return false;
  return mentions.everyone || mentions.userIds.includes(user) || (mentions.role !== Role.UNSPECIFIED && role >= mentions.role);
}
