// Everything that lives while somebody is signed in, made and ended together.

import { createContext } from 'svelte';
import type { ChatId, UserId } from '../lib/api/ids';
import { call } from '../lib/api/call';
import { Reason } from '../lib/api/failure';
import { ChatsService } from '../gen/tertulia/chats/v1/chats_pb';
import { Conversation } from '../lib/chats/conversation.svelte';
import { forgetDrafts } from '../lib/chats/drafts';
import { ChatList, otherOf } from '../lib/chats/list.svelte';
import { toChat, type Chat } from '../lib/chats/model';
import { Outbox } from '../lib/chats/outbox';
import { ChatStore } from '../lib/chats/store';
import { Sync } from '../lib/chats/sync';
import type { Item } from '../lib/chats/timeline';
import { browserWorld, Connection, type ConnectionState } from '../lib/live/connection';
import type { Account, Session } from '../lib/session/session.svelte';
import { alone } from '../lib/tabs/lock';
import { words } from '../lib/ui/words';
import { Users } from '../lib/users/users.svelte';

/** Messages of a burst that are read aloud. */
const SAID_MAX = 3;

export class Home {
  readonly account: Account;
  readonly session: Session;
  readonly connection: Connection;
  readonly store: ChatStore;
  readonly users: Users;
  readonly list: ChatList;
  readonly outbox: Outbox;
  #sync: Sync;
  #state = $state.raw<ConnectionState>({ kind: 'connecting' });
  #trouble = $state(false);
  #said = $state('');

  constructor(session: Session, account: Account) {
    this.session = session;
    this.account = account;
    const onTrouble = (trouble: unknown) => this.#onTrouble(trouble);
    this.store = new ChatStore(account.userId, account.deviceId);
    this.connection = new Connection({
      world: browserWorld(),
      client: `tertulia-web/${__VERSION__}`,
      token: (stale) => session.accessToken(stale),
      cursor: () => this.store.cursor(),
      onNews: (news) => this.#sync.take(news),
      onState: (state) => this.#onState(state),
    });
    const carrier = this.connection;
    this.users = new Users(carrier, account.userId);
    this.list = new ChatList(this.store, onTrouble);
    this.#sync = new Sync({ store: this.store, carrier, catchUp: () => void carrier.catchUp(), onTrouble });
    this.outbox = new Outbox({
      store: this.store,
      carrier,
      online: () => carrier.state.kind === 'online',
      alone: (work) => alone(`outbox.${account.userId}`, work),
      onTrouble,
    });
    this.store.changes.subscribe((change) => change.outbox && this.outbox.wake());
  }

  /** The connection, as it is now. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** The browser refuses to store. */
  get trouble(): boolean {
    return this.#trouble;
  }

  /** New messages, for a screen reader. */
  get said(): string {
    return this.#said;
  }

  start(): void {
    void this.users.load().catch((trouble: unknown) => this.#onTrouble(trouble));
    this.users.need([this.account.userId]);
    this.connection.start();
  }

  stop(): void {
    this.#sync.stop();
    this.outbox.stop();
    this.connection.stop();
    this.list.stop();
    this.store.close();
    this.users.close();
  }

  /** The chat with a user, as the server knows it; stored here before it is given. */
  async openDirect(user: UserId): Promise<ChatId> {
    const known = this.list.chats.find((chat) => otherOf(chat, this.account.userId) === user);
    if (known) return known.id;
    const { chat } = await call(this.connection, ChatsService.method.openDirect, { userId: BigInt(user) });
    if (!chat) throw new Error('the answer holds no chat');
    const told = toChat(chat);
    await this.store.putChats([told]);
    return told.id;
  }

  conversation(id: ChatId): Conversation {
    return new Conversation({
      store: this.store,
      carrier: this.connection,
      chatId: id,
      me: this.account,
      onHeard: (items) => this.#say(items),
      onTrouble: (trouble) => this.#onTrouble(trouble),
    });
  }

  /** Sends a refused message again. */
  async retry({ clientMessageId, reason }: Item): Promise<void> {
    if (clientMessageId) await this.store.retry(clientMessageId, reason === Reason.CLIENT_MESSAGE_ID_REUSED);
  }

  /** What a chat is called: the other one's name. */
  nameOf(chat: Pick<Chat, 'memberIds'> | undefined): string {
    const other = chat && otherOf(chat, this.account.userId);
    return (other && this.users.get(other)?.displayName) ?? words.list.somebody;
  }

  /** Ends the login and forgets what this browser holds of it. */
  async signOut(): Promise<void> {
    await this.session.signOut();
    forgetDrafts();
    this.stop();
    await Promise.all([this.store.destroy(), this.users.destroy()]);
  }

  #onState(state: ConnectionState): void {
    this.#state = state;
    if (state.kind === 'online') this.outbox.wake();
    if (state.kind === 'stopped' && state.why === 'signed_out') this.session.end();
  }

  #onTrouble(trouble: unknown): void {
    console.error(trouble);
    this.#trouble = true;
  }

  #say(items: Item[]): void {
    const lines = items.slice(-SAID_MAX).map((item) => `${this.users.get(item.actorId)?.displayName ?? words.list.somebody}: ${item.text}`);
    this.#said = lines.join('\n');
  }
}

export const [useHome, provideHome] = createContext<Home>();
