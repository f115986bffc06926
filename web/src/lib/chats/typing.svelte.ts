// Who is typing where. Told for six seconds at a time, never stored.

import { SvelteMap } from 'svelte/reactivity';
import { MessagesService } from '../../gen/tertulia/chats/v1/messages_pb';
import { call, type Carrier } from '../api/call';
import type { ChatId, UserId } from '../api/ids';

const HOLDS_MS = 6000;
/** How often the server is told while somebody types here. */
const TELL_EVERY_MS = 4000;

export class Typing {
  #carrier: Carrier;
  #who = new SvelteMap<ChatId, readonly UserId[]>();
  #timers = new Map<string, ReturnType<typeof setTimeout>>();
  #toldAt = new Map<ChatId, number>();

  constructor(carrier: Carrier) {
    this.#carrier = carrier;
  }

  /** Those who are typing in a chat. */
  in(id: ChatId): readonly UserId[] {
    return this.#who.get(id) ?? [];
  }

  /** Somebody else is typing. */
  heard(id: ChatId, user: UserId): void {
    if (!this.in(id).includes(user)) this.#who.set(id, [...this.in(id), user]);
    const key = `${id} ${user}`;
    clearTimeout(this.#timers.get(key));
    this.#timers.set(key, setTimeout(() => this.over(id, user), HOLDS_MS));
  }

  /** They said it, or it was long ago. */
  over(id: ChatId, user: UserId): void {
    const key = `${id} ${user}`;
    clearTimeout(this.#timers.get(key));
    if (this.#timers.delete(key)) this.#who.set(id, this.in(id).filter((who) => who !== user));
  }

  /** The person types here. */
  tell(id: ChatId): void {
    const now = Date.now();
    if (now - (this.#toldAt.get(id) ?? 0) < TELL_EVERY_MS) return;
    this.#toldAt.set(id, now);
    // It may be lost, and nobody waits for it.
    call(this.#carrier, MessagesService.method.sendTyping, { chatId: BigInt(id) }, HOLDS_MS).catch(() => undefined);
  }

  stop(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }
}
