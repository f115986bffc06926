// What a person does with chats, as calls. Each rejects with CallFailed; each may be repeated without harm.

import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { MembersService } from '../../gen/tertulia/chats/v1/members_pb';
import { MessagesService } from '../../gen/tertulia/chats/v1/messages_pb';
import { call, type Carrier } from '../api/call';
import { chatId, randomId, userId, type ChatId, type UserId } from '../api/ids';
import { fromMentions, toChat, toInvite, toSettings, type ChatKind, type Invite, type Mentions, type Role, type Settings, type ToldChat } from './model';
import type { Writing } from './store';

/** What a link leads to. */
export interface Preview {
  kind: ChatKind;
  title: string;
  topic: string;
  avatar: string;
  memberCount: number;
  /** The chat, when one is in it already. */
  chatId?: ChatId;
}

export interface NewChat {
  kind: ChatKind;
  title: string;
  topic: string;
  avatar: string;
  memberIds: readonly UserId[];
  /** The same for every attempt. */
  clientChatId: string;
}

export interface ChatChange {
  title?: string;
  topic?: string;
  avatar?: string;
  ttlS?: number;
}

const chats = ChatsService.method;
const messages = MessagesService.method;
const members = MembersService.method;

export class Verbs {
  #carrier: Carrier;

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
  }

  // Chats

  async create({ memberIds, ...chat }: NewChat): Promise<ToldChat> {
    return told(await call(this.#carrier, chats.createChat, { ...chat, memberIds: memberIds.map(BigInt) }));
  }

  async openDirect(user: UserId): Promise<ToldChat> {
    return told(await call(this.#carrier, chats.openDirect, { userId: BigInt(user) }));
  }

  async change(id: ChatId, { ttlS, ...change }: ChatChange): Promise<void> {
    const ttl = ttlS === undefined ? {} : { messageTtlS: BigInt(ttlS) };
    await call(this.#carrier, chats.updateChat, { chatId: BigInt(id), ...change, ...ttl });
  }

  async settings(id: ChatId, { mutedUntilMs, ...settings }: Settings): Promise<Settings> {
    const answer = await call(this.#carrier, chats.updateChatSettings, { chatId: BigInt(id), settings: { ...settings, mutedUntilMs: BigInt(mutedUntilMs) } });
    return toSettings(answer.settings);
  }

  /** How many a message has reached and how many have seen it, in a large chat. */
  async receiptCounts(id: ChatId, seq: number): Promise<{ delivered: number; seen: number }> {
    const answer = await call(this.#carrier, chats.listReceipts, { chatId: BigInt(id), seq: BigInt(seq) });
    return { delivered: answer.deliveredCount, seen: answer.seenCount };
  }

  // Messages

  edit(id: ChatId, seq: number, text: string, mentions: Mentions | undefined) {
    return call(this.#carrier, messages.editMessage, { ...named(id, seq), text, ...fromMentions(mentions) });
  }

  remove(id: ChatId, seqs: readonly number[]) {
    return call(this.#carrier, messages.deleteMessages, { chatId: BigInt(id), messageSeqs: seqs.map(BigInt) });
  }

  async hide(id: ChatId, seqs: readonly number[]): Promise<void> {
    await call(this.#carrier, messages.hideMessages, { chatId: BigInt(id), messageSeqs: seqs.map(BigInt) });
  }

  react(id: ChatId, seq: number, emoji: string, add: boolean) {
    return call(this.#carrier, add ? messages.addReaction : messages.removeReaction, { ...named(id, seq), emoji });
  }

  async reactions(id: ChatId, seq: number): Promise<Array<{ userId: UserId; emoji: string }>> {
    const answer = await call(this.#carrier, messages.listReactions, named(id, seq));
    return answer.reactions.map((reaction) => ({ userId: userId(reaction.userId), emoji: reaction.emoji }));
  }

  pin(id: ChatId, seq: number, add: boolean) {
    return call(this.#carrier, add ? messages.pinMessage : messages.unpinMessage, named(id, seq));
  }

  /** Copies messages into another chat. */
  async forward(from: ChatId, seqs: readonly number[], to: ChatId, clientMessageId: string): Promise<void> {
    await call(this.#carrier, messages.forwardMessages, { chatId: BigInt(to), clientMessageId, fromChatId: BigInt(from), messageSeqs: seqs.map(BigInt) });
  }

  /** The texts that a message had, the first one first. */
  async edits(id: ChatId, seq: number): Promise<Array<{ text: string; atMs: number }>> {
    const answer = await call(this.#carrier, messages.listEdits, named(id, seq));
    return answer.versions.map((version) => ({ text: version.text, atMs: Number(version.atMs) }));
  }

  async schedule(id: ChatId, { text, replyTo = 0, threadSeq = 0, mentions }: Writing, sendAtMs: number): Promise<void> {
    await call(this.#carrier, messages.scheduleMessage, {
      chatId: BigInt(id),
      clientMessageId: randomId(),
      text,
      replyToSeq: BigInt(replyTo),
      threadSeq: BigInt(threadSeq),
      sendAtMs: BigInt(sendAtMs),
      ...fromMentions(mentions),
    });
  }

  async cancel(scheduledId: string): Promise<void> {
    await call(this.#carrier, messages.cancelScheduledMessage, { scheduledId: BigInt(scheduledId) });
  }

  // Members and invites

  async add(id: ChatId, users: readonly UserId[]): Promise<void> {
    await call(this.#carrier, members.addMembers, { chatId: BigInt(id), userIds: users.map(BigInt) });
  }

  async removeMember(id: ChatId, user: UserId): Promise<void> {
    await call(this.#carrier, members.removeMember, { chatId: BigInt(id), userId: BigInt(user) });
  }

  async ban(id: ChatId, user: UserId): Promise<void> {
    await call(this.#carrier, members.banMember, { chatId: BigInt(id), userId: BigInt(user) });
  }

  async unban(id: ChatId, user: UserId): Promise<void> {
    await call(this.#carrier, members.unbanMember, { chatId: BigInt(id), userId: BigInt(user) });
  }

  async banned(id: ChatId): Promise<UserId[]> {
    const answer = await call(this.#carrier, members.listBanned, { chatId: BigInt(id) });
    return answer.userIds.map(userId);
  }

  async setRole(id: ChatId, user: UserId, role: Role): Promise<void> {
    await call(this.#carrier, members.setRole, { chatId: BigInt(id), userId: BigInt(user), role });
  }

  async leave(id: ChatId): Promise<void> {
    await call(this.#carrier, members.leaveChat, { chatId: BigInt(id) });
  }

  async invite(id: ChatId, validS: number, usesMax: number): Promise<void> {
    await call(this.#carrier, members.createInvite, { chatId: BigInt(id), clientInviteId: randomId(), validS: BigInt(validS), usesMax });
  }

  async invites(id: ChatId): Promise<Invite[]> {
    return (await call(this.#carrier, members.listInvites, { chatId: BigInt(id) })).invites.map(toInvite);
  }

  async revoke(id: ChatId, code: string): Promise<void> {
    await call(this.#carrier, members.revokeInvite, { chatId: BigInt(id), code });
  }

  async preview(code: string): Promise<Preview> {
    const { kind, title, topic, avatar, memberCount, chatId: id } = await call(this.#carrier, members.previewInvite, { code });
    return { kind, title, topic, avatar, memberCount, ...(id > 0n && { chatId: chatId(id) }) };
  }

  async join(code: string): Promise<ToldChat> {
    return told(await call(this.#carrier, members.joinChat, { code }));
  }
}

const named = (id: ChatId, seq: number) => ({ chatId: BigInt(id), messageSeq: BigInt(seq) });

function told({ chat }: { chat?: Parameters<typeof toChat>[0] | undefined }): ToldChat {
  if (!chat) throw new Error('the answer holds no chat');
  return toChat(chat);
}
