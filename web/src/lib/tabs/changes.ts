// Tells every tab of this origin what one of them has stored, so that each shows the same.

/** Calls back when somebody has stored something. `from` says who. */
export type Listener<Change> = (change: Change, from: 'here' | 'elsewhere') => void;

export class Changes<Change> {
  #listeners = new Set<Listener<Change>>();
  #channel: BroadcastChannel | undefined;

  constructor(name: string) {
    if (typeof BroadcastChannel === 'undefined') return;
    this.#channel = new BroadcastChannel(`tertulia.${name}`);
    this.#channel.onmessage = ({ data }: MessageEvent<Change>) => this.#tell(data, 'elsewhere');
  }

  /** Tells this tab and the others. `Change` must be cloneable. */
  publish(change: Change): void {
    this.#tell(change, 'here');
    this.#channel?.postMessage(change);
  }

  /** Gives what ends it. */
  subscribe(listener: Listener<Change>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
    this.#channel?.close();
    this.#channel = undefined;
  }

  #tell(change: Change, from: 'here' | 'elsewhere'): void {
    for (const listener of this.#listeners) listener(change, from);
  }
}
