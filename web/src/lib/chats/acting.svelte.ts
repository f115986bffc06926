// What somebody is about to do with a message: its menu, an answer, an edit, and what each comes to.

import { CallFailed, Reason } from '../api/failure';
import { words } from '../ui/words';
import type { Chat } from './log';
import type { Mentions, Message } from './model';
import type { Talk } from './talk.svelte';
import type { Item } from './timeline';

/** What a message asks for. */
export interface MessageEvents {
  menu(item: Item, at: DOMRect, emoji: boolean): void;
  reply(item: Item): void;
  react(item: Item, emoji: string): void;
  thread(seq: number): void;
  jump(seq: number): void;
  edits(item: Item, at: DOMRect): void;
  who(item: Item, at: DOMRect): void;
  retry(item: Item): void;
  discard(clientMessageId: string): void;
}

/** An entry of its menu. */
export type Choice = 'reply' | 'thread' | 'copy' | 'edit' | 'pin' | 'forward' | 'seen' | 'hide' | 'remove';

/** A conversation, or a thread of it. */
export interface Stage {
  chat(): Chat | undefined;
  change(target: number, apply: (message: Message) => Message | undefined, ask: () => Promise<{ seq: bigint } | undefined>): Promise<void>;
  jump(seq: number): void;
  thread(seq: number): void;
  /** A message was deleted for the person. */
  hidden(seq: number): void;
}

interface Shown {
  item: Item;
  at: DOMRect;
}

export class Acting implements MessageEvents {
  menuOf = $state.raw<(Shown & { emoji: boolean }) | undefined>();
  answering = $state.raw<Item | undefined>();
  editing = $state.raw<Item | undefined>();
  forwarding = $state.raw<Item | undefined>();
  removing = $state.raw<Item | undefined>();
  editsOf = $state.raw<Shown | undefined>();
  whoOf = $state.raw<(Shown & { what: 'reactions' | 'seen' }) | undefined>();
  #talk: Talk;
  #stage: Stage;

  constructor(talk: Talk, stage: Stage) {
    this.#talk = talk;
    this.#stage = stage;
  }

  menu = (item: Item, at: DOMRect, emoji: boolean) => (this.menuOf = { item, at, emoji });
  thread = (seq: number) => this.#stage.thread(seq);
  jump = (seq: number) => this.#stage.jump(seq);
  edits = (item: Item, at: DOMRect) => (this.editsOf = { item, at });
  who = (item: Item, at: DOMRect) => (this.whoOf = { item, at, what: 'reactions' });

  reply = (item: Item) => {
    this.editing = undefined;
    this.answering = item;
  };

  retry = (item: Item) => {
    if (item.clientMessageId) void this.#talk.store.retry(item.clientMessageId, item.reason === Reason.CLIENT_MESSAGE_ID_REUSED);
  };

  discard = (clientMessageId: string) => void this.#talk.store.discard(clientMessageId);

  react = (item: Item, emoji: string) => {
    const id = this.#stage.chat()?.id;
    const { seq } = item;
    if (!id || !seq) return;
    const add = !item.message?.reactions.some((r) => r.emoji === emoji && r.mine);
    void this.#run(seq, (m) => ({ ...m, reactions: withReaction(m.reactions, emoji, add) }), () => this.#talk.verbs.react(id, seq, emoji, add));
  };

  /** An entry of the menu was chosen. */
  choose(choice: Choice, { item, at }: Shown): void {
    const { seq } = item;
    const id = this.#stage.chat()?.id;
    if (!seq || !id) return;
    switch (choice) {
      case 'reply':
        return this.reply(item);
      case 'thread':
        return this.#stage.thread(seq);
      case 'edit':
        this.answering = undefined;
        this.editing = item;
        return;
      case 'copy':
        return void copy(item.text).then((done) => done && this.#talk.notices.tell(words.act.copied));
      case 'forward':
        this.forwarding = item;
        return;
      case 'seen':
        this.whoOf = { item, at, what: 'seen' };
        return;
      case 'pin': {
        const pinned = !item.message?.pinned;
        return void this.#run(seq, (m) => ({ ...m, pinned }), () => this.#talk.verbs.pin(id, seq, pinned));
      }
      case 'hide':
        return void this.#hide(id, seq);
      case 'remove':
        this.removing = item;
        return;
    }
  }

  /** The text of the message that is being edited, as it shall be. */
  edit(item: Item, text: string, mentions: Mentions | undefined): void {
    this.editing = undefined;
    const id = this.#stage.chat()?.id;
    const { seq } = item;
    if (!id || !seq || text === item.text) return;
    const apply = ({ mentions: _, ...m }: Message): Message => ({ ...m, text, editedAtMs: Date.now(), ...(mentions && { mentions }) });
    void this.#run(seq, apply, () => this.#talk.verbs.edit(id, seq, text, mentions)).then((done) => {
      // What was refused is not lost: it can be corrected.
      if (!done) this.editing = { ...item, text };
    });
  }

  /** Deletes a message for everybody, after the person said so twice. */
  remove(item: Item): void {
    const id = this.#stage.chat()?.id;
    const { seq } = item;
    if (id && seq) void this.#run(seq, () => undefined, () => this.#talk.verbs.remove(id, [seq]));
  }

  cancel(): void {
    this.answering = undefined;
    this.editing = undefined;
  }

  async #hide(id: Chat['id'], seq: number): Promise<void> {
    const ask = async () => {
      await this.#talk.verbs.hide(id, [seq]);
      this.#stage.hidden(seq);
      return undefined;
    };
    await this.#run(seq, (m) => ({ ...m, hidden: true }), ask);
  }

  async #run(seq: number, apply: (message: Message) => Message | undefined, ask: () => Promise<{ seq: bigint } | undefined>): Promise<boolean> {
    return await this.#talk.notices.run(async () => {
      try {
        await this.#stage.change(seq, apply, ask);
      } catch (thrown) {
        if (!(thrown instanceof CallFailed)) this.#talk.onTrouble(thrown);
        throw thrown;
      }
    });
  }
}

function withReaction(reactions: Message['reactions'], emoji: string, add: boolean): Message['reactions'] {
  const known = reactions.find((r) => r.emoji === emoji);
  if (!known) return add ? [...reactions, { emoji, count: 1, mine: true }] : reactions;
  const next = { emoji, count: known.count + (add ? 1 : -1), mine: add };
  return reactions.flatMap((r) => (r !== known ? r : next.count > 0 ? next : []));
}

/** Says whether it was possible; without https a browser may refuse. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
