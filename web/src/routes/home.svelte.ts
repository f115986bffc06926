// Everything that lives while somebody is signed in, made and ended together.

import { createContext } from 'svelte';
import { chatId, userId, type ChatId } from '../lib/api/ids';
import { Reason } from '../lib/api/failure';
import { Conversation } from '../lib/chats/conversation.svelte';
import { Drafts } from '../lib/chats/drafts';
import { ChatList } from '../lib/chats/list.svelte';
import { plainText } from '../lib/chats/markdown';
import { Marks } from '../lib/chats/marks';
import { Members } from '../lib/chats/members.svelte';
import { Outbox } from '../lib/chats/outbox';
import { ChatStore } from '../lib/chats/store';
import { Sync } from '../lib/chats/sync';
import { Talk } from '../lib/chats/talk.svelte';
import type { Item } from '../lib/chats/timeline';
import { Typing } from '../lib/chats/typing.svelte';
import { Verbs } from '../lib/chats/verbs';
import { Announcements } from '../lib/live/announcements.svelte';
import { browserWorld, Connection, type ConnectionState, type News, type World } from '../lib/live/connection';
import { Presences } from '../lib/presence/presence.svelte';
import { watchRest } from '../lib/presence/rest';
import type { Account, Session } from '../lib/session/session.svelte';
import { alone } from '../lib/tabs/lock';
import { Notices } from '../lib/ui/notices.svelte';
import type { Router } from '../lib/ui/router.svelte';
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
  readonly talk: Talk;
  readonly presences: Presences;
  readonly notices = new Notices();
  readonly announcements = new Announcements();
  #outbox: Outbox;
  #marks: Marks;
  #typing: Typing;
  #drafts: Drafts;
  #sync: Sync;
  #shown: ChatId | undefined;
  #unrest: (() => void) | undefined;
  #state = $state.raw<ConnectionState>({ kind: 'connecting' });
  #trouble = $state(false);
  #said = $state('');

  constructor(session: Session, account: Account, router: Router, world: World = browserWorld()) {
    this.session = session;
    this.account = account;
    const onTrouble = (trouble: unknown) => this.#onTrouble(trouble);
    this.store = new ChatStore(account.userId, account.deviceId);
    this.connection = new Connection({
      world,
      client: `tertulia-web/${__VERSION__}`,
      token: (stale) => session.accessToken(stale),
      cursor: () => this.store.cursor(),
      onNews: (news) => this.#onNews(news),
      onState: (state) => this.#onState(state),
    });
    const carrier = this.connection;
    this.users = new Users(carrier, account.userId);
    this.list = new ChatList(this.store, onTrouble);
    const online = () => carrier.state.kind === 'online';
    this.#sync = new Sync({
      store: this.store,
      carrier,
      catchUp: () => void carrier.catchUp(),
      onWhole: () => this.#outbox.wake(),
      onTrouble,
    });
    this.#outbox = new Outbox({
      store: this.store,
      carrier,
      ready: () => online() && this.#sync.settled,
      alone: (work) => alone(`outbox.${account.userId}`, work),
      onTrouble,
    });
    this.#marks = new Marks({ store: this.store, carrier, online, onTrouble });
    this.#typing = new Typing(carrier);
    this.presences = new Presences(carrier, carrier);
    this.#drafts = new Drafts(this.store, carrier, onTrouble);
    this.talk = new Talk({
      me: account,
      carrier,
      store: this.store,
      users: this.users,
      list: this.list,
      verbs: new Verbs(carrier),
      members: new Members(carrier),
      typing: this.#typing,
      presences: this.presences,
      drafts: this.#drafts,
      notices: this.notices,
      router,
      verify: (id) => this.#sync.verify(id),
      onTrouble,
    });
    this.store.changes.subscribe((change) => {
      if (change.outbox) this.#outbox.wake();
      if (change.chats) this.#marks.wake();
    });
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
    this.#unrest ??= watchRest(document, (idle) => this.connection.rest(idle));
  }

  stop(): void {
    this.#unrest?.();
    this.#unrest = undefined;
    this.#sync.stop();
    this.#outbox.stop();
    this.#marks.stop();
    this.#typing.stop();
    this.#drafts.stop();
    this.connection.stop();
    this.list.stop();
    this.store.close();
    this.users.close();
  }

  /** A chat is shown, or none: a channel is heard live only then. */
  show(id: ChatId | undefined): void {
    if (id === this.#shown) return;
    this.#shown = id;
    this.connection.warm(id ? [BigInt(id)] : []);
    this.presences.open(id);
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

  /** Ends the login and forgets what this browser holds of it. */
  async signOut(): Promise<void> {
    await this.session.signOut();
    this.stop();
    await Promise.all([this.store.destroy(), this.users.destroy()]);
  }

  #onState(state: ConnectionState): void {
    this.#state = state;
    if (state.kind !== 'online') this.presences.forget();
    if (state.kind === 'online') {
      this.#marks.wake();
      void this.#drafts.wake();
    }
    if (state.kind === 'stopped' && state.why === 'signed_out') this.session.end();
  }

  #onNews(news: News): void {
    if (news.kind === 'typing') {
      this.#typing.heard(chatId(news.typing.chatId), userId(news.typing.userId));
      return;
    }
    if (news.kind === 'notice') {
      this.announcements.heard(news.notice);
      return;
    }
    if (news.kind === 'presence') return this.presences.heard(news.presence);
    if (news.kind === 'watched') return this.presences.heardAll(news.watched.presences);
    if (news.kind === 'chat_event' && news.event.event) this.#typing.over(chatId(news.event.event.chatId), userId(news.event.event.actorId));
    this.#sync.take(news);
  }

  #onTrouble(trouble: unknown): void {
    console.error(trouble);
    this.#trouble = true;
  }

  #say(items: Item[]): void {
    const lines = items.slice(-SAID_MAX).map((item) => `${this.users.get(item.actorId)?.displayName ?? words.list.somebody}: ${plainText(item.text)}`);
    this.#said = lines.join('\n');
  }
}

export const [useHome, provideHome] = createContext<Home>();
