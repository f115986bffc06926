// Who is there, as far as the live connection was told. Never stored, and unknown without a connection.

import { SvelteMap } from 'svelte/reactivity';
import { PresenceService, PresenceState, type UserPresence } from '../../gen/tertulia/presence/v1/presence_pb';
import { call, type Carrier } from '../api/call';
import { userId, type ChatId, type UserId } from '../api/ids';

/** Chats that the server takes at once. */
const CHATS_MAX = 100;

/** Whether somebody is there. */
export type Presence =
  | { kind: 'online' }
  | { kind: 'away' }
  /** Last there at that minute; 0 when that is not known. */
  | { kind: 'offline'; seenAtMs: number };

/** Where to say which chats are watched. */
export interface Watching {
  watch(chats: readonly bigint[]): void;
}

export class Presences {
  #carrier: Carrier;
  #watching: Watching;
  #known = new SvelteMap<UserId, Presence>();
  #listed: readonly ChatId[] = [];
  #open: ChatId | undefined;
  #members: { chat: ChatId; since: number } | undefined;
  #watched = '';
  #shares = $state<boolean | undefined>();

  constructor(carrier: Carrier, watching: Watching) {
    this.#carrier = carrier;
    this.#watching = watching;
  }

  /** Whether a user is there; undefined when that is not known, or not told. Reactive. */
  of(user: UserId | undefined): Presence | undefined {
    return user === undefined ? undefined : this.#known.get(user);
  }

  /** Others may know whether the person is there; undefined while it is not known. */
  get shares(): boolean | undefined {
    return this.#shares;
  }

  /** These chats are in sight in the list. */
  list(chats: readonly ChatId[]): void {
    this.#listed = chats;
    this.#watch();
  }

  /** This chat is open, or none. */
  open(chat: ChatId | undefined): void {
    this.#open = chat;
    this.#watch();
  }

  /** Since when the members of the open chat are as they are: when that is another, the server is asked anew. */
  members(chat: ChatId, since: number): void {
    if (chat !== this.#open) return;
    const known = this.#members;
    this.#members = { chat, since };
    if (known?.chat === chat && known.since !== since) this.#watch(true);
  }

  /** Somebody comes, rests or goes. */
  heard(told: UserPresence): void {
    const presence = toPresence(told);
    if (presence) this.#known.set(userId(told.userId), presence);
    else this.#known.delete(userId(told.userId));
  }

  /** This is everything that is known. */
  heardAll(told: readonly UserPresence[]): void {
    const named = new Set(told.map((one) => userId(one.userId)));
    for (const user of [...this.#known.keys()]) if (!named.has(user)) this.#known.delete(user);
    told.forEach((one) => this.heard(one));
  }

  /** The connection is lost, and with it what was known. */
  forget(): void {
    this.#known.clear();
  }

  /** Asks for the person's choice. */
  async load(): Promise<void> {
    this.#shares = (await call(this.#carrier, PresenceService.method.getSharing, {})).share;
  }

  /** Chooses whether others may know, and the person of them. */
  async share(share: boolean): Promise<void> {
    await call(this.#carrier, PresenceService.method.setSharing, { share });
    this.#shares = share;
    if (!share) this.forget();
    this.#watch(true);
  }

  #watch(again = false): void {
    const chats = [...new Set([...(this.#open ? [this.#open] : []), ...this.#listed])].slice(0, CHATS_MAX);
    const watched = chats.toSorted().join(' ');
    if (watched === this.#watched && !again) return;
    this.#watched = watched;
    this.#watching.watch(chats.map(BigInt));
  }
}

function toPresence({ state, lastSeenAtMs }: UserPresence): Presence | undefined {
  switch (state) {
    case PresenceState.ONLINE:
      return { kind: 'online' };
    case PresenceState.AWAY:
      return { kind: 'away' };
    case PresenceState.OFFLINE:
      return { kind: 'offline', seenAtMs: Number(lastSeenAtMs) };
    default:
      return undefined;
  }
}
