// A chats server in memory, for tests and for looking at screens: the logs behind the calls of the contract,
// by the rules of docs/protocol/sync.md and without any storage, rights or limits.

import { create, fromBinary, toBinary, type DescMethodUnary, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';
import { ChatsService } from '../../gen/tertulia/chats/v1/chats_pb';
import { MembersService } from '../../gen/tertulia/chats/v1/members_pb';
import { MessagesService } from '../../gen/tertulia/chats/v1/messages_pb';
import { ChatKind, ChatSchema, DeletionReason, EventSchema, LeftReason, Role, type UserEventSchema } from '../../gen/tertulia/chats/v1/model_pb';
import { ConnectResponseSchema, type MissedSchema } from '../../gen/tertulia/live/v1/live_pb';
import { PresenceService } from '../../gen/tertulia/presence/v1/presence_pb';
import { UsersService } from '../../gen/tertulia/users/v1/users_pb';
import type { Carrier } from '../api/call';
import { CallFailed, Reason } from '../api/failure';
import type { News } from '../live/connection';
import { digest } from './digest';
import { toEvent } from './model';

type WireEvent = MessageInitShape<typeof EventSchema>;
type Body = Exclude<WireEvent['body'], undefined>;
type Told = { chatId: bigint; seq: bigint; atMs: bigint; actorId: bigint; body: Body };
type WireUserEvent = MessageInitShape<typeof UserEventSchema>;
type Frame = MessageInitShape<typeof ConnectResponseSchema>['frame'];

interface Mentions {
  userIds?: bigint[];
  everyone?: boolean;
  role?: Role;
}

/** A message as it is now. */
interface Said {
  text: string;
  id: bigint;
  clientMessageId: string;
  deviceId: string;
  changedSeq: number;
  editedAtMs: number;
  versions: Array<{ text: string; atMs: bigint }>;
  deletion?: { reason: DeletionReason; by: bigint };
  replyTo: number;
  thread: number;
  forward?: { userId: bigint; atMs: bigint };
  mentions?: Mentions;
  reactions: Map<string, Set<bigint>>;
  pinned: boolean;
  replies: number;
  lastReply: number;
}

interface Entry {
  seq: number;
  atMs: number;
  actor: bigint;
  /** As it was when it happened. */
  body: Body;
  said?: Said;
}

interface Seat {
  role: Role;
  seen: number;
  delivered: number;
  hidden: Set<number>;
  settings: { mutedUntilMs: bigint; notify: number; archived: boolean; favorite: boolean; markedUnread: boolean };
  draft?: { text: string; replyToSeq: bigint; atMs: bigint };
}

export class FakeChat {
  title = '';
  topic = '';
  avatar = '';
  ttlS = 0;
  pins: number[] = [];
  membersSeq = 0;
  log: Entry[] = [];
  seats = new Map<bigint, Seat>();
  banned = new Set<bigint>();
  invites: Array<{ code: string; uses: number; usesMax: number; expiresAtMs: bigint; role: Role; createdBy: bigint }> = [];

  constructor(
    readonly id: bigint,
    readonly kind: ChatKind,
  ) {}

  get head(): number {
    return this.log.length;
  }

  seat(user: bigint): Seat {
    const seat = this.seats.get(user);
    if (!seat) throw new CallFailed('not_found', 'no chat', Reason.CHAT_NOT_FOUND);
    return seat;
  }

  said(seq: number): Said {
    const said = this.log[seq - 1]?.said;
    if (!said || said.deletion) throw new CallFailed('not_found', 'no message', Reason.MESSAGE_NOT_FOUND);
    return said;
  }
}

const seat = (role: Role): Seat => ({
  role,
  seen: 0,
  delivered: 0,
  hidden: new Set(),
  settings: { mutedUntilMs: 0n, notify: 0, archived: false, favorite: false, markedUnread: false },
});

export class FakeServer {
  chats = new Map<bigint, FakeChat>();
  own = new Map<bigint, WireUserEvent[]>();
  users = new Map<bigint, { name: string; displayName: string; about: string }>();
  scheduled = new Map<bigint, Array<MessageInitShape<typeof MessagesService.method.scheduleMessage.input> & { scheduledId: bigint }>>();
  shareSeen = true;
  sharePresence = true;
  epoch = 'one';
  /** When chats are opened, in milliseconds since 1970. */
  created = 1;
  /** The calls that came, by name. */
  calls: string[] = [];
  /** What the next calls of a method meet; each is used once. With `after` it is done and the answer lost. */
  failures: Array<{ method: string; failure: CallFailed; after?: boolean }> = [];
  /** Until when answers to these methods are on their way. */
  delayed = new Map<string, Promise<void>>();
  /** Everything that is told live, to whom. */
  onFrame: (user: bigint, frame: Frame) => void = () => undefined;
  now = () => 1_000_000 + this.#ticks++ * 1000;
  #ticks = 0;
  #nextChat = 9000n;

  // What happens

  open(id: bigint, users: bigint[], kind = ChatKind.DIRECT, title = ''): FakeChat {
    const chat = new FakeChat(id, kind);
    this.chats.set(id, chat);
    chat.title = title;
    users.forEach((user, i) => chat.seats.set(user, seat(i === 0 && kind !== ChatKind.DIRECT ? Role.OWNER : Role.MEMBER)));
    if (kind !== ChatKind.DIRECT) {
      const value = { title, memberIds: users.slice(1), memberCount: users.length };
      this.append(id, users[0] ?? 0n, { case: 'chatCreated', value });
    }
    for (const user of users) this.#tellOwn(user, { case: 'chatJoined', value: { chat: this.#joined(chat, user) } });
    return chat;
  }

  append(id: bigint, actor: bigint, body: Body, said?: Said): number {
    const chat = this.chat(id);
    const seq = chat.head + 1;
    const atMs = this.now();
    if (said) said.changedSeq = seq;
    chat.log.push({ seq, atMs, actor, body, ...(said && { said }) });
    const event = this.live(id, seq);
    for (const user of chat.seats.keys()) this.onFrame(user, { case: 'chatEvent', value: { prev: BigInt(seq - 1), event } });
    return seq;
  }

  say(
    id: bigint,
    actor: bigint,
    text: string,
    more: { clientMessageId?: string; deviceId?: string; replyTo?: number; thread?: number; mentions?: Mentions; forward?: Said['forward'] } = {},
  ): number {
    const chat = this.chat(id);
    const { clientMessageId = `c-${chat.head + 1}`, deviceId = 'there', replyTo = 0, thread = 0, mentions, forward } = more;
    const known = chat.log.find((e) => e.actor === actor && e.said?.clientMessageId === clientMessageId && e.said.deviceId === deviceId);
    if (known) return known.seq;
    const said: Said = {
      text, clientMessageId, deviceId, replyTo, thread,
      ...(mentions && { mentions }), ...(forward && { forward }),
      id: id * 100_000n + BigInt(chat.head + 1), changedSeq: 0, editedAtMs: 0, versions: [],
      reactions: new Map(), pinned: false, replies: 0, lastReply: 0,
    };
    const value = {
      messageId: said.id, text, clientMessageId, deviceId, replyToSeq: BigInt(replyTo), threadSeq: BigInt(thread),
      changedSeq: BigInt(chat.head + 1), ...(mentions && { mentions }), ...(forward && { forward }),
    };
    const seq = this.append(id, actor, { case: 'message', value }, said);
    const root = thread > 0 ? chat.log[thread - 1]?.said : undefined;
    if (root) Object.assign(root, { replies: root.replies + 1, lastReply: seq, changedSeq: seq });
    const own = chat.seats.get(actor);
    if (own) own.seen = seq;
    return seq;
  }

  edit(id: bigint, actor: bigint, target: number, text: string, mentions?: Mentions): number {
    const said = this.chat(id).said(target);
    if (said.text === text) return 0;
    const value = { messageSeq: BigInt(target), text, ...(mentions && { mentions }) };
    const seq = this.append(id, actor, { case: 'messageEdited', value });
    const entry = this.chat(id).log[seq - 1];
    said.versions.push({ text: said.text, atMs: BigInt(said.editedAtMs || (this.chat(id).log[target - 1]?.atMs ?? 0)) });
    Object.assign(said, { text, editedAtMs: entry?.atMs, changedSeq: seq });
    if (mentions) said.mentions = mentions;
    else delete said.mentions;
    return seq;
  }

  remove(id: bigint, actor: bigint, targets: number[], reason = DeletionReason.SENDER): number {
    const chat = this.chat(id);
    const there = [...new Set(targets)].filter((target) => chat.log[target - 1]?.said && !chat.log[target - 1]?.said?.deletion);
    if (there.length === 0) return 0;
    const seq = this.append(id, actor, { case: 'messagesDeleted', value: { messageSeqs: there.map(BigInt), reason } });
    for (const target of there) {
      const said = chat.said(target);
      delete said.mentions;
      delete said.forward;
      Object.assign(said, { text: '', deletion: { reason, by: actor }, editedAtMs: 0, replyTo: 0, reactions: new Map(), pinned: false, changedSeq: seq });
    }
    chat.pins = chat.pins.filter((pin) => !there.includes(pin));
    return seq;
  }

  react(id: bigint, actor: bigint, target: number, emoji: string, add = true): number {
    const said = this.chat(id).said(target);
    const users = said.reactions.get(emoji);
    if ((users?.has(actor) ?? false) === add) return 0;
    const seq = this.append(id, actor, { case: add ? 'reactionAdded' : 'reactionRemoved', value: { messageSeq: BigInt(target), emoji } });
    if (add) said.reactions.set(emoji, new Set([...(users ?? []), actor]));
    else users?.delete(actor);
    if (said.reactions.get(emoji)?.size === 0) said.reactions.delete(emoji);
    said.changedSeq = seq;
    return seq;
  }

  pin(id: bigint, actor: bigint, target: number, add = true): number {
    const chat = this.chat(id);
    const said = chat.said(target);
    if (said.pinned === add) return 0;
    const seq = this.append(id, actor, { case: add ? 'pinned' : 'unpinned', value: { messageSeq: BigInt(target) } });
    chat.pins = [...(add ? [target] : []), ...chat.pins.filter((pin) => pin !== target)];
    Object.assign(said, { pinned: add, changedSeq: seq });
    return seq;
  }

  change(id: bigint, actor: bigint, change: { title?: string; topic?: string; avatar?: string; ttlS?: number }): number {
    const { ttlS, ...rest } = change;
    Object.assign(this.chat(id), change);
    return this.append(id, actor, { case: 'chatChanged', value: { ...rest, ...(ttlS !== undefined && { messageTtlS: BigInt(ttlS) }) } });
  }

  add(id: bigint, actor: bigint, users: bigint[], role = Role.MEMBER): number {
    const chat = this.chat(id);
    const added = users.filter((user) => !chat.seats.has(user) && !chat.banned.has(user));
    if (added.length === 0) return 0;
    for (const user of added) chat.seats.set(user, seat(role));
    return this.#membersMoved(chat, actor, { case: 'membersAdded', value: { userIds: added, role, memberCount: chat.seats.size } }, added);
  }

  join(id: bigint, user: bigint, invitedBy: bigint): number {
    const chat = this.chat(id);
    if (chat.banned.has(user)) throw new CallFailed('permission_denied', 'banned', Reason.BANNED);
    if (chat.seats.has(user)) return 0;
    chat.seats.set(user, seat(Role.MEMBER));
    return this.#membersMoved(chat, user, { case: 'memberJoined', value: { invitedBy, role: Role.MEMBER, memberCount: chat.seats.size } }, [user]);
  }

  /** Somebody goes: by themselves, or because of somebody else. */
  part(id: bigint, actor: bigint, user: bigint, ban = false): number {
    const chat = this.chat(id);
    if (!chat.seats.delete(user)) return 0;
    if (ban) chat.banned.add(user);
    const count = { memberCount: chat.seats.size };
    const reason = actor === user ? LeftReason.LEFT : ban ? LeftReason.BANNED : LeftReason.REMOVED;
    const body: Body = actor === user ? { case: 'memberLeft', value: count } : { case: ban ? 'memberBanned' : 'memberRemoved', value: { userId: user, ...count } };
    const seq = this.#membersMoved(chat, actor, body, []);
    this.#tellOwn(user, { case: 'chatLeft', value: { chatId: id, reason, by: actor === user ? 0n : actor } });
    return seq;
  }

  setRole(id: bigint, actor: bigint, user: bigint, role: Role): number {
    const chat = this.chat(id);
    chat.seat(user).role = role;
    if (role === Role.OWNER) chat.seat(actor).role = Role.ADMIN;
    return this.#membersMoved(chat, actor, { case: 'roleChanged', value: { userId: user, role } }, []);
  }

  read(id: bigint, user: bigint, seen: number) {
    const chat = this.chat(id);
    const own = chat.seat(user);
    const next = Math.max(own.seen, Math.min(seen, chat.head));
    if (next > own.seen || own.settings.markedUnread) {
      own.seen = next;
      own.settings.markedUnread = false;
      this.#tellOwn(user, { case: 'readMoved', value: { chatId: id, read: this.#read(chat, user) } });
      this.#tellReceipt(chat, user);
    }
    return this.#read(chat, user);
  }

  hide(id: bigint, user: bigint, targets: number[]): void {
    for (const target of targets) this.chat(id).seat(user).hidden.add(target);
    this.#tellOwn(user, { case: 'messagesHidden', value: { chatId: id, messageSeqs: targets.map(BigInt) } });
  }

  typing(id: bigint, user: bigint): void {
    for (const other of this.chat(id).seats.keys()) {
      if (other !== user) this.onFrame(other, { case: 'typing', value: { chatId: id, userId: user } });
    }
  }

  // What is told

  /** An event as it was when it happened. */
  live(id: bigint, seq: number): Told {
    const entry = this.chat(id).log[seq - 1];
    if (!entry) throw new Error(`no event ${seq}`);
    return { chatId: id, seq: BigInt(seq), atMs: BigInt(entry.atMs), actorId: entry.actor, body: entry.body };
  }

  /** An event as it is now, for somebody. */
  shown(id: bigint, seq: number, user: bigint): Told {
    const chat = this.chat(id);
    const event = this.live(id, seq);
    const said = chat.log[seq - 1]?.said;
    if (!said) return event;
    const hidden = chat.seat(user).hidden.has(seq) && !said.deletion;
    const reactions = [...said.reactions].map(([emoji, users]) => ({ emoji, count: users.size, mine: users.has(user) }));
    const value = {
      messageId: said.id, text: hidden ? '' : said.text, clientMessageId: said.clientMessageId, deviceId: said.deviceId,
      changedSeq: BigInt(said.changedSeq), editedAtMs: BigInt(said.editedAtMs), ...(said.deletion && { deletion: said.deletion }), hidden,
      replyToSeq: BigInt(said.replyTo), threadSeq: BigInt(said.thread), ...(said.forward && { forward: said.forward }),
      ...(said.mentions && { mentions: said.mentions }), reactions, pinned: said.pinned, replyCount: said.replies, lastReplySeq: BigInt(said.lastReply),
    };
    const { chatId, atMs, actorId } = event;
    return { chatId, seq: BigInt(seq), atMs, actorId, body: { case: 'message', value } };
  }

  told(id: bigint, user: bigint) {
    const chat = this.chat(id);
    const own = chat.seat(user);
    const last = chat.log.findLast((entry) => entry.said);
    return {
      chatId: id, kind: chat.kind, memberIds: chat.kind === ChatKind.DIRECT ? [...chat.seats.keys()] : [], head: BigInt(chat.head),
      createdAtMs: BigInt(chat.log[0]?.atMs ?? this.created), title: chat.title, topic: chat.topic, avatar: chat.avatar, messageTtlS: BigInt(chat.ttlS), pinnedSeqs: chat.pins.map(BigInt),
      memberCount: chat.seats.size, membersSeq: BigInt(chat.membersSeq), ...(last && { lastMessage: this.shown(id, last.seq, user) }),
      membership: { role: own.role, joinedAtMs: 1n, read: this.#read(chat, user), settings: { ...own.settings }, ...(own.draft && { draft: own.draft }) },
    };
  }

  news(id: bigint, seq: number, prev = seq - 1): News {
    return this.#told({ case: 'chatEvent', value: { prev: BigInt(prev), event: this.live(id, seq) } });
  }

  ownNews(user: bigint, seq: number): News {
    const event = this.own.get(user)?.[seq - 1];
    return this.#told({ case: 'ownEvent', value: { prev: BigInt(seq - 1), ...(event && { event }) } });
  }

  heartbeat(cursor: number, heads: Array<[bigint, number]>, ownHead = 0): News {
    const value = heads.map(([chatId, seq]) => ({ chatId, seq: BigInt(seq) }));
    const bytes = cursor === 0 ? new Uint8Array() : new Uint8Array([cursor]);
    return this.#told({ case: 'heartbeat', value: { heads: value, ownHead: BigInt(ownHead), cursor: bytes } });
  }

  missed(cursor: number, answer: MessageInitShape<typeof MissedSchema>['answer']): News {
    return this.#told({ case: 'welcome', value: { missed: { cursor: new Uint8Array([cursor]), answer: answer ?? { case: undefined } } } });
  }

  reset(cursor: number, user: bigint): News {
    const chats = [...this.chats.values()].filter((chat) => chat.seats.has(user)).map((chat) => this.told(chat.id, user));
    return this.missed(cursor, { case: 'reset', value: { chats, ownHead: BigInt(this.ownHead(user)), epoch: this.epoch } });
  }

  changed(cursor: number, user: bigint, ids: bigint[]): News {
    return this.missed(cursor, { case: 'changed', value: { chats: ids.map((id) => this.told(id, user)), ownHead: BigInt(this.ownHead(user)) } });
  }

  ownHead(user: bigint): number {
    return this.own.get(user)?.length ?? 0;
  }

  chat(id: bigint): FakeChat {
    const chat = this.chats.get(id);
    if (!chat) throw new CallFailed('not_found', 'no chat', Reason.CHAT_NOT_FOUND);
    return chat;
  }

  /** Carries the calls of one user on one device. */
  as(user: bigint, deviceId: string): Carrier {
    return {
      call: async (method, request) => {
        const name = method.split('/')[1] ?? '';
        this.calls.push(name);
        const planned = this.failures.findIndex((f) => f.method === name);
        const plan = planned >= 0 ? this.failures.splice(planned, 1)[0] : undefined;
        if (plan && !plan.after) throw plan.failure;
        const answer = await this.#answer(name, request, user, deviceId);
        if (plan) throw plan.failure;
        await this.delayed.get(name);
        return answer;
      },
    };
  }

  // Inside

  #membersMoved(chat: FakeChat, actor: bigint, body: Body, joined: bigint[]): number {
    chat.membersSeq = chat.head + 1;
    const seq = this.append(chat.id, actor, body);
    for (const user of joined) {
      chat.seat(user).seen = seq;
      this.#tellOwn(user, { case: 'chatJoined', value: { chat: this.#joined(chat, user) } });
    }
    return seq;
  }

  #joined(chat: FakeChat, user: bigint) {
    const { lastMessage: _, ...rest } = this.told(chat.id, user);
    return rest;
  }

  #tellOwn(user: bigint, body: WireUserEvent['body']): void {
    const log = this.own.get(user) ?? [];
    this.own.set(user, log);
    const event: WireUserEvent = { seq: BigInt(log.length + 1), atMs: 1n, body: body ?? { case: undefined } };
    log.push(event);
    this.onFrame(user, { case: 'ownEvent', value: { prev: BigInt(log.length - 1), event } });
  }

  #tellReceipt(chat: FakeChat, user: bigint): void {
    const { seen, delivered } = chat.seat(user);
    const receipts = [{ userId: user, seenSeq: BigInt(seen), deliveredSeq: BigInt(Math.max(seen, delivered)) }];
    for (const other of chat.seats.keys()) if (other !== user) this.onFrame(other, { case: 'receipts', value: { chatId: chat.id, receipts } });
  }

  #read(chat: FakeChat, user: bigint) {
    const { seen, role } = chat.seat(user);
    const left = chat.log.filter((e) => e.seq > seen && e.said && !e.said.deletion && e.actor !== user);
    const calls = left.filter(({ said }) => {
      const m = said?.mentions;
      return m && (m.everyone || m.userIds?.includes(user) || (m.role && role >= m.role));
    });
    return { seenSeq: BigInt(seen), unread: left.length, unreadMentions: calls.length, asOfSeq: BigInt(chat.head) };
  }

  #told(frame: Frame): News {
    const news = this.asNews(frame);
    if (!news) throw new Error('no news');
    return news;
  }

  /** A frame as the connection hands it on; undefined when it keeps it to itself. */
  asNews(frame: Frame): News | undefined {
    const { frame: told } = create(ConnectResponseSchema, { frame: frame ?? { case: undefined } });
    switch (told.case) {
      case 'welcome':
        return { kind: 'missed', first: true, missed: told.value.missed };
      case 'chatEvent':
        return { kind: 'chat_event', event: told.value };
      case 'ownEvent':
        return { kind: 'own_event', event: told.value };
      case 'heartbeat':
        return { kind: 'heartbeat', heartbeat: told.value };
      default:
        return undefined;
    }
  }

  async #answer(name: string, bytes: Uint8Array, me: bigint, deviceId: string): Promise<Uint8Array> {
    const all = [ChatsService, MessagesService, MembersService, UsersService, PresenceService].flatMap((service) => service.methods);
    const method = all.find((m) => m.name === name);
    const act = method && this.#acts(me, deviceId)[method.localName];
    if (!method || !act) throw new CallFailed('unimplemented', name, Reason.UNKNOWN_METHOD);
    return toBinary(method.output, create(method.output, (await act(fromBinary(method.input, bytes) as never)) as never));
  }

  /** What each method does, by its name in the generated code. */
  #acts(me: bigint, deviceId: string): Record<string, (request: never) => unknown> {
    type In<M extends DescMethodUnary> = MessageShape<M['input']>;
    type C = typeof ChatsService.method;
    type T = typeof MessagesService.method;
    type M = typeof MembersService.method;
    const page = (chat: FakeChat, entries: Entry[]) => ({ events: entries.map((e) => this.shown(chat.id, e.seq, me)), head: BigInt(chat.head) });
    const mine = (id: bigint) => {
      const chat = this.chat(id);
      chat.seat(me);
      return chat;
    };
    const seq = (n: number) => ({ seq: BigInt(n) });
    const sent = (id: bigint, n: number) => {
      const entry = this.chat(id).log[n - 1];
      return { seq: BigInt(n), messageId: entry?.said?.id ?? 0n, atMs: BigInt(entry?.atMs ?? 0) };
    };
    return {
      listEvents: ({ chatId, from, limit }: In<C['listEvents']>) => {
        const chat = mine(chatId);
        const at = Number(from.value ?? 0n);
        if (from.case === 'afterSeq') return page(chat, chat.log.slice(at, at + (limit || 50)));
        const end = at === 0 ? chat.head : at - 1;
        return page(chat, chat.log.slice(Math.max(0, end - (limit || 50)), end));
      },
      listChanges: ({ chatId, fromSeq, toSeq, afterSeq, limit }: In<C['listChanges']>) => {
        const chat = mine(chatId);
        const moved = chat.log
          .filter((e) => e.said && e.seq >= Number(fromSeq) && e.seq <= Number(toSeq) && e.said.changedSeq > Number(afterSeq))
          .sort((a, b) => (a.said?.changedSeq ?? 0) - (b.said?.changedSeq ?? 0));
        // Messages that one event has changed are told together.
        const end = moved[(limit || 100) - 1]?.said?.changedSeq;
        const some = moved.filter((e, i) => i < (limit || 100) || e.said?.changedSeq === end);
        const more = some.length < moved.length;
        const through = more ? (some.at(-1)?.said?.changedSeq ?? 0) : chat.head;
        return { events: page(chat, some).events, throughSeq: BigInt(through), more };
      },
      getDigests: async ({ chatId, fromSeq, toSeq, block }: In<C['getDigests']>) => {
        const chat = mine(chatId);
        const [head, to] = [chat.head, Math.min(chat.head, Number(toSeq))];
        const digests = [];
        for (let first = Number(fromSeq); first <= to; first += block || 500) {
          const last = Math.min(to, first + (block || 500) - 1);
          const events = chat.log.slice(first - 1, last).map(({ seq }) => toEvent(create(EventSchema, this.shown(chatId, seq, me))));
          digests.push({ fromSeq: BigInt(first), toSeq: BigInt(last), digest: await digest(events) });
        }
        return { digests, head: BigInt(head) };
      },
      getChat: ({ chatId }: In<C['getChat']>) => ({ chat: this.told(mine(chatId).id, me) }),
      listChats: () => ({ chats: [...this.chats.values()].filter((c) => c.seats.has(me)).map((c) => this.told(c.id, me)) }),
      openDirect: ({ userId }: In<C['openDirect']>) => {
        const known = [...this.chats.values()].find((c) => c.kind === ChatKind.DIRECT && c.seats.has(me) && c.seats.has(userId));
        return { chat: this.told((known ?? this.open(this.#nextChat++, [me, userId])).id, me) };
      },
      createChat: ({ kind, title, topic, avatar, memberIds }: In<C['createChat']>) => {
        const chat = this.open(this.#nextChat++, [me, ...memberIds], kind, title);
        Object.assign(chat, { topic, avatar });
        return { chat: this.told(chat.id, me) };
      },
      updateChat: ({ chatId, title, topic, avatar, messageTtlS }: In<C['updateChat']>) =>
        seq(this.change(mine(chatId).id, me, {
          ...(title !== undefined && { title }), ...(topic !== undefined && { topic }), ...(avatar !== undefined && { avatar }),
          ...(messageTtlS !== undefined && { ttlS: Number(messageTtlS) }),
        })),
      listUserEvents: ({ afterSeq, limit }: In<C['listUserEvents']>) => {
        const log = this.own.get(me) ?? [];
        return { events: log.slice(Number(afterSeq), Number(afterSeq) + (limit || 50)), head: BigInt(log.length) };
      },
      markRead: ({ chatId, seenSeq }: In<C['markRead']>) => ({ read: this.read(mine(chatId).id, me, Number(seenSeq)) }),
      markDelivered: ({ delivered }: In<C['markDelivered']>) => {
        for (const { chatId, seq: to } of delivered) {
          const chat = this.chats.get(chatId);
          const own = chat?.seats.get(me);
          if (!chat || !own || own.delivered >= Number(to)) continue;
          own.delivered = Number(to);
          this.#tellReceipt(chat, me);
        }
        return {};
      },
      listReceipts: ({ chatId }: In<C['listReceipts']>) => {
        const chat = mine(chatId);
        const others = [...chat.seats].filter(([user]) => user !== me);
        return { receipts: others.map(([userId, s]) => ({ userId, seenSeq: BigInt(s.seen), deliveredSeq: BigInt(Math.max(s.seen, s.delivered)) })) };
      },
      updateChatSettings: ({ chatId, settings }: In<C['updateChatSettings']>) => {
        const own = mine(chatId).seat(me);
        if (settings) own.settings = { ...own.settings, ...settings };
        this.#tellOwn(me, { case: 'settingsChanged', value: { chatId, settings: { ...own.settings } } });
        return { settings: own.settings };
      },
      updateDraft: ({ chatId, draft }: In<C['updateDraft']>) => {
        const own = mine(chatId).seat(me);
        if (draft?.text || draft?.replyToSeq) own.draft = { text: draft.text, replyToSeq: draft.replyToSeq, atMs: BigInt(this.now()) };
        else delete own.draft;
        this.#tellOwn(me, { case: 'draftChanged', value: { chatId, ...(own.draft && { draft: own.draft }) } });
        return own.draft ? { draft: own.draft } : {};
      },
      sendMessage: (r: In<T['sendMessage']>) => {
        mine(r.chatId);
        const n = this.say(r.chatId, me, r.text, {
          clientMessageId: r.clientMessageId, deviceId, replyTo: Number(r.replyToSeq), thread: Number(r.threadSeq),
          ...(r.mentions && { mentions: r.mentions }),
        });
        return sent(r.chatId, n);
      },
      forwardMessages: (r: In<T['forwardMessages']>) => {
        const from = mine(r.fromChatId);
        const messages = r.messageSeqs.map((target, i) => {
          const entry = from.log[Number(target) - 1];
          const forward = { userId: entry?.actor ?? 0n, atMs: BigInt(entry?.atMs ?? 0) };
          return sent(r.chatId, this.say(r.chatId, me, from.said(Number(target)).text, { clientMessageId: `${r.clientMessageId}-${i}`, deviceId, forward }));
        });
        return { messages };
      },
      editMessage: (r: In<T['editMessage']>) => seq(this.edit(mine(r.chatId).id, me, Number(r.messageSeq), r.text, r.mentions)),
      deleteMessages: (r: In<T['deleteMessages']>) => seq(this.remove(mine(r.chatId).id, me, r.messageSeqs.map(Number))),
      hideMessages: (r: In<T['hideMessages']>) => {
        this.hide(mine(r.chatId).id, me, r.messageSeqs.map(Number));
        return {};
      },
      addReaction: (r: In<T['addReaction']>) => seq(this.react(mine(r.chatId).id, me, Number(r.messageSeq), r.emoji)),
      removeReaction: (r: In<T['removeReaction']>) => seq(this.react(mine(r.chatId).id, me, Number(r.messageSeq), r.emoji, false)),
      listReactions: (r: In<T['listReactions']>) => {
        const reactions = [...mine(r.chatId).said(Number(r.messageSeq)).reactions];
        return { reactions: reactions.flatMap(([emoji, users]) => [...users].map((userId) => ({ userId, emoji }))) };
      },
      pinMessage: (r: In<T['pinMessage']>) => seq(this.pin(mine(r.chatId).id, me, Number(r.messageSeq))),
      unpinMessage: (r: In<T['unpinMessage']>) => seq(this.pin(mine(r.chatId).id, me, Number(r.messageSeq), false)),
      getMessages: ({ chatId, messageSeqs }: In<T['getMessages']>) => {
        const chat = mine(chatId);
        return page(chat, chat.log.filter((e) => e.said && messageSeqs.includes(BigInt(e.seq))));
      },
      listThread: ({ chatId, threadSeq, afterSeq, limit }: In<T['listThread']>) => {
        const chat = mine(chatId);
        const found = chat.log.filter((e) => e.said?.thread === Number(threadSeq) && e.seq > Number(afterSeq));
        return { ...page(chat, found.slice(0, limit || 50)), more: found.length > (limit || 50) };
      },
      listEdits: ({ chatId, messageSeq }: In<T['listEdits']>) => {
        const said = mine(chatId).said(Number(messageSeq));
        return { versions: [...said.versions, { text: said.text, atMs: BigInt(said.editedAtMs) }] };
      },
      sendTyping: ({ chatId }: In<T['sendTyping']>) => {
        this.typing(mine(chatId).id, me);
        return {};
      },
      scheduleMessage: ({ $typeName: _, ...request }: In<T['scheduleMessage']>) => {
        const scheduled = { ...request, scheduledId: BigInt(this.now()) };
        this.scheduled.set(me, [...(this.scheduled.get(me) ?? []), scheduled]);
        this.#tellOwn(me, { case: 'scheduleChanged', value: { scheduledId: scheduled.scheduledId, scheduled } });
        return { scheduled };
      },
      cancelScheduledMessage: ({ scheduledId }: In<T['cancelScheduledMessage']>) => {
        this.scheduled.set(me, (this.scheduled.get(me) ?? []).filter((s) => s.scheduledId !== scheduledId));
        this.#tellOwn(me, { case: 'scheduleChanged', value: { scheduledId } });
        return {};
      },
      listScheduledMessages: () => ({ scheduled: this.scheduled.get(me) ?? [] }),
      listMembers: ({ chatId }: In<M['listMembers']>) => {
        const chat = mine(chatId);
        const members = [...chat.seats].map(([userId, s]) => ({ userId, role: s.role, joinedAtMs: 1n }));
        return { members, membersSeq: BigInt(chat.membersSeq) };
      },
      addMembers: (r: In<M['addMembers']>) => ({ ...seq(this.add(mine(r.chatId).id, me, r.userIds, r.role || Role.MEMBER)), addedIds: r.userIds }),
      removeMember: (r: In<M['removeMember']>) => seq(this.part(mine(r.chatId).id, me, r.userId)),
      banMember: (r: In<M['banMember']>) => seq(this.part(mine(r.chatId).id, me, r.userId, true)),
      unbanMember: (r: In<M['unbanMember']>) => {
        mine(r.chatId).banned.delete(r.userId);
        return seq(this.append(r.chatId, me, { case: 'memberUnbanned', value: { userId: r.userId } }));
      },
      listBanned: ({ chatId }: In<M['listBanned']>) => ({ userIds: [...mine(chatId).banned] }),
      setRole: (r: In<M['setRole']>) => seq(this.setRole(mine(r.chatId).id, me, r.userId, r.role)),
      leaveChat: ({ chatId }: In<M['leaveChat']>) => seq(this.part(mine(chatId).id, me, me)),
      createInvite: (r: In<M['createInvite']>) => {
        const chat = mine(r.chatId);
        const expiresAtMs = r.validS > 0n ? BigInt(this.now()) + r.validS * 1000n : 0n;
        const invite = { code: `invite-${r.chatId}-${chat.invites.length + 1}-abcdef`, uses: 0, usesMax: r.usesMax, expiresAtMs, role: r.role || Role.MEMBER, createdBy: me };
        chat.invites.unshift(invite);
        return { invite: { ...invite, chatId: r.chatId, createdAtMs: BigInt(this.now()) } };
      },
      listInvites: ({ chatId }: In<M['listInvites']>) => ({ invites: mine(chatId).invites.map((i) => ({ ...i, chatId, createdAtMs: BigInt(this.now()) })) }),
      revokeInvite: ({ chatId, code }: In<M['revokeInvite']>) => {
        const chat = mine(chatId);
        chat.invites = chat.invites.filter((i) => i.code !== code);
        return {};
      },
      previewInvite: ({ code }: In<M['previewInvite']>) => {
        const chat = this.#invited(code);
        const { kind, title, topic, avatar } = chat;
        return { kind, title, topic, avatar, memberCount: chat.seats.size, chatId: chat.seats.has(me) ? chat.id : 0n };
      },
      joinChat: ({ code }: In<M['joinChat']>) => {
        const chat = this.#invited(code);
        this.join(chat.id, me, chat.invites.find((i) => i.code === code)?.createdBy ?? 0n);
        return { chat: create(ChatSchema, this.told(chat.id, me)) };
      },
      getMe: () => ({ user: { userId: me, ...this.users.get(me) }, shareSeen: this.shareSeen }),
      getUsers: ({ userIds }: In<typeof UsersService.method.getUsers>) => ({
        users: userIds.flatMap((userId) => (this.users.has(userId) ? { userId, ...this.users.get(userId) } : [])),
      }),
      updateProfile: (r: In<typeof UsersService.method.updateProfile>) => {
        const user = this.users.get(me);
        if (user && r.displayName !== undefined) user.displayName = r.displayName;
        if (user && r.about !== undefined) user.about = r.about;
        this.shareSeen = r.shareSeen ?? this.shareSeen;
        return { user: { userId: me, ...user }, shareSeen: this.shareSeen };
      },
      getSharing: () => ({ share: this.sharePresence }),
      setSharing: ({ share }: In<typeof PresenceService.method.setSharing>) => {
        this.sharePresence = share;
        return {};
      },
      searchUsers: ({ query }: In<typeof UsersService.method.searchUsers>) => {
        const begins = (text: string) => text.toLowerCase().split(' ').some((word) => word.startsWith(query.toLowerCase()));
        const found = [...this.users].filter(([id, user]) => id !== me && (begins(user.name) || begins(user.displayName)));
        return { users: found.map(([userId, user]) => ({ userId, ...user })) };
      },
    };
  }

  #invited(code: string): FakeChat {
    const chat = [...this.chats.values()].find((c) => c.invites.some((i) => i.code === code));
    if (!chat) throw new CallFailed('not_found', 'no invite', Reason.INVITE_NOT_FOUND);
    return chat;
  }
}

