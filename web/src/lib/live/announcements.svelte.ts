// What the operator announces to everybody who is here, until the person has read it.

import type { Notice } from '../../gen/tertulia/live/v1/live_pb';

export interface Announcement {
  id: number;
  text: string;
}

/** The kind of a notice whose text is for people. Other kinds are for programs, or of a newer server. */
const ANNOUNCEMENT = 'announcement';
/** Shown at once; an older one makes room. */
const SHOWN_MAX = 3;

export class Announcements {
  #list = $state.raw<readonly Announcement[]>([]);
  #next = 1;

  get list(): readonly Announcement[] {
    return this.#list;
  }

  /** Takes a notice; what is shown already is not shown twice. */
  heard({ kind, text }: Pick<Notice, 'kind' | 'text'>): void {
    const said = text.trim();
    if (kind !== ANNOUNCEMENT || !said || this.#list.some((one) => one.text === said)) return;
    this.#list = [...this.#list, { id: this.#next++, text: said }].slice(-SHOWN_MAX);
  }

  dismiss(id: number): void {
    this.#list = this.#list.filter((one) => one.id !== id);
  }
}
