// Everything that screens of chats stand on, handed down to them.

import { createContext } from 'svelte';
import type { Carrier } from '../api/call';
import type { ChatId, UserId } from '../api/ids';
import type { Notices } from '../ui/notices.svelte';
import type { Router } from '../ui/router.svelte';
import { words } from '../ui/words';
import type { Users } from '../users/users.svelte';
import type { Drafts } from './drafts';
import type { ChatList } from './list.svelte';
import type { Chat } from './log';
import type { Members } from './members.svelte';
import { ChatKind, type Settings, type ToldChat } from './model';
import type { ChatStore } from './store';
import type { Presences } from '../presence/presence.svelte';
import type { Typing } from './typing.svelte';
import type { Verbs } from './verbs';
import type { Verified } from './verify';

export interface TalkParts {
  me: { userId: UserId; deviceId: string };
  carrier: Carrier;
  store: ChatStore;
  users: Users;
  list: ChatList;
  verbs: Verbs;
  members: Members;
  typing: Typing;
  presences: Presences;
  drafts: Drafts;
  notices: Notices;
  router: Router;
  /** Compares what is held of a chat with the server, and reads again what differs. */
  verify(id: ChatId): Promise<Verified>;
  onTrouble(trouble: unknown): void;
}

/** What a chat is called by. */
type Named = Pick<Chat, 'id' | 'kind' | 'memberIds' | 'title' | 'avatar'>;

export class Talk {
  readonly me: TalkParts['me'];
  readonly carrier: Carrier;
  readonly store: ChatStore;
  readonly users: Users;
  readonly list: ChatList;
  readonly verbs: Verbs;
  readonly members: Members;
  readonly typing: Typing;
  readonly presences: Presences;
  readonly drafts: Drafts;
  readonly notices: Notices;
  readonly router: Router;
  readonly verify: TalkParts['verify'];
  readonly onTrouble: (trouble: unknown) => void;

  constructor(parts: TalkParts) {
    ({ me: this.me, carrier: this.carrier, store: this.store, users: this.users, list: this.list, verbs: this.verbs } = parts);
    ({ members: this.members, typing: this.typing, presences: this.presences, drafts: this.drafts, notices: this.notices, router: this.router } = parts);
    [this.verify, this.onTrouble] = [parts.verify, parts.onTrouble];
  }

  isMe(user: UserId): boolean {
    return user === this.me.userId;
  }

  /** What others call a user. */
  nameOf(user: UserId | undefined): string {
    return (user && this.users.get(user)?.displayName) ?? words.list.somebody;
  }

  /** What a chat is called: its title, or the other one's name. */
  titleOf(chat: Named | undefined): string {
    if (chat && chat.kind !== ChatKind.DIRECT) return chat.title;
    return this.nameOf(chat && otherOf(chat, this.me.userId));
  }

  /** What its picture is made of. */
  pictureOf(chat: Named): { name: string; id: string; emoji: string } {
    const id = chat.kind === ChatKind.DIRECT ? (otherOf(chat, this.me.userId) ?? chat.id) : chat.id;
    return { name: this.titleOf(chat), id, emoji: chat.avatar };
  }

  /** Chooses what a chat is to the person: shown at once, taken back when it is refused. */
  async choose(chat: Pick<Chat, 'id' | 'settings'>, change: Partial<Settings>): Promise<void> {
    const settings = { ...chat.settings, ...change };
    await this.store.putSettings(chat.id, settings);
    const done = await this.notices.run(() => this.verbs.settings(chat.id, settings));
    if (!done) await this.store.putSettings(chat.id, chat.settings);
  }

  /** Opens the chat with a user. */
  async talkTo(user: UserId): Promise<void> {
    const known = this.list.chats.find((chat) => chat.kind === ChatKind.DIRECT && otherOf(chat, this.me.userId) === user);
    this.router.open(known?.id ?? (await this.enter(() => this.verbs.openDirect(user))));
  }

  /** Comes into a chat by a call, and gives which that is. */
  async enter(call: () => Promise<ToldChat>): Promise<ChatId> {
    const askedAt = await this.store.ownTip();
    const chat = await call();
    await this.store.putChats([chat], askedAt);
    return chat.id;
  }
}

/** The other one of a direct chat. */
export function otherOf(chat: Pick<Chat, 'memberIds'>, me: UserId): UserId | undefined {
  return chat.memberIds.find((id) => id !== me) ?? chat.memberIds[0];
}

/** Whether the person wants to hear nothing of a chat now. */
export function isMuted(settings: Settings, nowMs = Date.now()): boolean {
  return settings.mutedUntilMs < 0 || settings.mutedUntilMs > nowMs;
}

export const [useTalk, provideTalk] = createContext<Talk>();
