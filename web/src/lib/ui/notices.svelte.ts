// Short news for the person, at the foot of the screen: what was done, and what was not.

import { CallFailed } from '../api/failure';
import { failureWords, words } from './words';

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
}

const SHOWN_MS = 4500;
const BAD_SHOWN_MS = 9000;
const NOTICES_MAX = 3;

export class Notices {
  #list = $state.raw<readonly Notice[]>([]);
  #next = 1;

  get list(): readonly Notice[] {
    return this.#list;
  }

  tell(text: string, bad = false): void {
    const id = this.#next++;
    this.#list = [...this.#list, { id, text, bad }].slice(-NOTICES_MAX);
    setTimeout(() => this.dismiss(id), bad ? BAD_SHOWN_MS : SHOWN_MS);
  }

  dismiss(id: number): void {
    this.#list = this.#list.filter((notice) => notice.id !== id);
  }

  /** Runs work, and tells when it fails; says whether it did not. */
  async run(work: () => Promise<unknown>, done?: string): Promise<boolean> {
    try {
      await work();
    } catch (thrown) {
      if (!(thrown instanceof CallFailed)) throw thrown;
      const quote = thrown.requestId && !failureWords(thrown).includes(thrown.requestId) ? ` (${words.request} ${thrown.requestId})` : '';
      this.tell(failureWords(thrown) + quote, true);
      return false;
    }
    if (done) this.tell(done);
    return true;
  }
}
