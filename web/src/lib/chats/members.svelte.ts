// Who is in a chat: read when somebody wants to know, and again when it has changed.

import { SvelteMap } from 'svelte/reactivity';
import { MembersService } from '../../gen/tertulia/chats/v1/members_pb';
import { call, type Carrier } from '../api/call';
import { userId, type ChatId, type UserId } from '../api/ids';
import type { Chat } from './log';
import { ChatKind, Role } from './model';

export interface Member {
  id: UserId;
  role: Role;
}

interface List {
  members: readonly Member[];
  /** The newest change of members that is in the list. */
  seq: number;
}

/** Members that are read of a chat; more are counted, not listed. */
export const MEMBERS_MAX = 1000;
const NONE: readonly Member[] = [];

export class Members {
  #carrier: Carrier;
  #lists = new SvelteMap<ChatId, List>();
  #reading = new Map<ChatId, Promise<void>>();

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
  }

  /** Those who are known to be in a chat, the highest role first; reactive. */
  of(chat: Pick<Chat, 'id' | 'kind' | 'memberIds'>): readonly Member[] {
    if (chat.kind === ChatKind.DIRECT) return chat.memberIds.map((id) => ({ id, role: Role.MEMBER }));
    return this.#lists.get(chat.id)?.members ?? NONE;
  }

  /** The list is out of date, or was never read. */
  isOld(chat: Pick<Chat, 'id' | 'kind' | 'membersSeq'>): boolean {
    const list = this.#lists.get(chat.id);
    return chat.kind !== ChatKind.DIRECT && (!list || list.seq < chat.membersSeq);
  }

  /** Reads the list when it is old. Rejects with CallFailed. */
  async read(chat: Pick<Chat, 'id' | 'kind' | 'membersSeq'>): Promise<void> {
    if (!this.isOld(chat)) return;
    const reading = this.#reading.get(chat.id) ?? this.#read(chat.id).finally(() => this.#reading.delete(chat.id));
    this.#reading.set(chat.id, reading);
    await reading;
  }

  async #read(id: ChatId): Promise<void> {
    const members: Member[] = [];
    let seq = Infinity;
    for (let after = 0n; members.length < MEMBERS_MAX; ) {
      const answer = await call(this.#carrier, MembersService.method.listMembers, { chatId: BigInt(id), afterUserId: after, limit: MEMBERS_MAX });
      members.push(...answer.members.map((member) => ({ id: userId(member.userId), role: member.role })));
      // The first page is the oldest.
      seq = Math.min(seq, Number(answer.membersSeq));
      after = answer.members.at(-1)?.userId ?? after;
      if (!answer.more || answer.members.length === 0) break;
    }
    members.sort((a, b) => b.role - a.role);
    this.#lists.set(id, { members, seq });
  }
}
