// Profiles: kept in memory and in the browser, asked for in groups when a screen needs one.

import { Dexie, type Table } from 'dexie';
import { SvelteMap } from 'svelte/reactivity';
import { UsersService } from '../../gen/tertulia/users/v1/users_pb';
import { call, type Carrier } from '../api/call';
import type { UserId } from '../api/ids';
import { toUser, type User } from './model';

/** A profile older than this is asked for again when it is shown. */
const FRESH_MS = 10 * 60_000;
const ASK_USERS_MAX = 100;

class Database extends Dexie {
  declare users: Table<User, UserId>;

  constructor(name: string) {
    super(name);
    this.version(1).stores({ users: 'id' });
  }
}

export class Users {
  #carrier: Carrier;
  #me: UserId;
  #db: Database;
  #known = new SvelteMap<UserId, User>();
  #askedAtMs = new Map<UserId, number>();
  #toAsk = new Set<UserId>();
  #sharesSeen = $state<boolean | undefined>();

  constructor(carrier: Carrier, me: UserId) {
    this.#carrier = carrier;
    this.#me = me;
    this.#db = new Database(`tertulia-users-${me}`);
  }

  /** Brings back what an earlier visit knew. */
  async load(): Promise<void> {
    for (const user of await this.#db.users.toArray()) this.#known.set(user.id, user);
  }

  close(): void {
    this.#db.close();
  }

  async destroy(): Promise<void> {
    await this.#db.delete();
  }

  /** What is known of a user; reactive. */
  get(id: UserId): User | undefined {
    return this.#known.get(id);
  }

  get me(): User | undefined {
    return this.#known.get(this.#me);
  }

  /** Sees to it that these profiles are here, and not old. */
  need(ids: Iterable<UserId>): void {
    const now = Date.now();
    const idle = this.#toAsk.size === 0;
    for (const id of ids) if (now - (this.#askedAtMs.get(id) ?? 0) > FRESH_MS) this.#toAsk.add(id);
    if (idle && this.#toAsk.size > 0) queueMicrotask(() => void this.#ask());
  }

  /** People whose name or display name begins with the query. */
  async search(query: string): Promise<{ users: User[]; more: boolean }> {
    const answer = await call(this.#carrier, UsersService.method.searchUsers, { query, limit: 20 });
    const users = answer.users.map(toUser);
    await this.#keep(users);
    return { users, more: answer.more };
  }

  /** A known user by their unique name. */
  byName(name: string): User | undefined {
    return [...this.#known.values()].find((user) => user.name === name);
  }

  /** Others may know what the person has seen; undefined while it is not known. */
  get sharesSeen(): boolean | undefined {
    return this.#sharesSeen;
  }

  /** Changes the own profile. */
  async update(change: { displayName?: string; about?: string; shareSeen?: boolean }): Promise<void> {
    const { user, shareSeen } = await call(this.#carrier, UsersService.method.updateProfile, change);
    this.#sharesSeen = shareSeen;
    if (user) await this.#keep([toUser(user)]);
  }

  /** Reads the own profile anew. */
  async refreshMe(): Promise<void> {
    const { user, shareSeen } = await call(this.#carrier, UsersService.method.getMe, {});
    this.#sharesSeen = shareSeen;
    if (user) await this.#keep([toUser(user)]);
  }

  async #ask(): Promise<void> {
    const ids = [...this.#toAsk].slice(0, ASK_USERS_MAX);
    const now = Date.now();
    for (const id of ids) {
      this.#toAsk.delete(id);
      this.#askedAtMs.set(id, now);
    }
    try {
      const answer = await call(this.#carrier, UsersService.method.getUsers, { userIds: ids.map(BigInt) });
      await this.#keep(answer.users.map(toUser));
    } catch {
      // What is known is shown; the next screen that needs them asks again.
      for (const id of ids) this.#askedAtMs.delete(id);
    }
    if (this.#toAsk.size > 0) void this.#ask();
  }

  async #keep(users: User[]): Promise<void> {
    const now = Date.now();
    for (const user of users) {
      this.#known.set(user.id, user);
      this.#askedAtMs.set(user.id, now);
    }
    await this.#db.users.bulkPut(users).catch(() => undefined);
  }
}
