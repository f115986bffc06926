// What a conversation shows: a run of held events as lines, then what is on its way. Pure.

import type { UserId } from '../api/ids';
import { DeletionReason, type Act, type Event, type Mentions, type Message, type Unsent } from './model';

/** One line of the conversation. */
export interface Item {
  /** Stays the same while a message goes from unsent to stored. */
  key: string;
  /** A message; a message of a thread, told in passing; or something that happened. */
  kind: 'message' | 'reply' | 'notice';
  seq?: number;
  atMs: number;
  actorId: UserId;
  own: boolean;
  state: 'sending' | 'failed' | 'stored';
  text: string;
  /** Of a stored message: everything else of it. */
  message?: Message;
  act?: Act;
  replyTo: number;
  threadSeq: number;
  mentions?: Mentions;
  clientMessageId?: string;
  reason?: number;
}

export interface View {
  me: { userId: UserId; deviceId: string };
  nowMs: number;
  /** The thread that is shown; 0 for the conversation itself. */
  thread: number;
  /** Changes of messages that the server has not agreed to yet. */
  overlays: readonly Overlay[];
}

/** A change of a message that is shown before the server has agreed to it. */
export interface Overlay {
  target: number;
  /** The change is in the log from here on; undefined while nothing is known. */
  until?: number;
  /** Undefined when the message is gone. */
  apply(message: Message): Message | undefined;
}

/** The lines of held events, oldest first, and of unsent messages behind them. */
export function toItems(events: readonly Event[], unsent: readonly Unsent[], view: View): Item[] {
  const items: Item[] = [];
  const shown = new Set<string>();
  for (const event of events) {
    const item = toItem(event, view);
    if (!item) continue;
    items.push(item);
    shown.add(item.key);
  }
  for (const waiting of unsent) {
    if (waiting.threadSeq !== view.thread || shown.has(waiting.clientMessageId)) continue;
    items.push(toUnsentItem(waiting, view.me.userId));
  }
  return items;
}

function toItem(event: Event, view: View): Item | undefined {
  const { me, thread } = view;
  const { seq, atMs, actorId, act } = event;
  const common = { seq, atMs, actorId, own: actorId === me.userId, state: 'stored' as const };
  if (!event.message) {
    if (!act || thread > 0 || !isTold(act)) return undefined;
    return { ...common, key: `s${seq}`, kind: 'notice', act, text: '', replyTo: 0, threadSeq: 0 };
  }
  const message = changed(event.message, seq, view);
  if (!message || message.hidden || isOver(message, view.nowMs)) return undefined;
  // Sent by this device, so that an unsent message may be the same one.
  const fromHere = common.own && message.deviceId === me.deviceId;
  const { text, replyTo, threadSeq, mentions } = message;
  return {
    ...common,
    key: fromHere ? message.clientMessageId : `s${seq}`,
    kind: threadSeq > 0 && thread === 0 ? 'reply' : 'message',
    message,
    text,
    replyTo,
    threadSeq,
    ...(mentions && { mentions }),
  };
}

function toUnsentItem(waiting: Unsent, me: UserId): Item {
  const { clientMessageId, text, atMs, replyTo, threadSeq, state, reason, mentions } = waiting;
  return {
    key: clientMessageId,
    kind: 'message',
    atMs,
    actorId: me,
    own: true,
    state: state === 'failed' ? 'failed' : state === 'sent' ? 'stored' : 'sending',
    text,
    replyTo,
    threadSeq,
    clientMessageId,
    ...(mentions && { mentions }),
    ...(reason !== undefined && { reason }),
  };
}

function changed(message: Message, seq: number, { overlays }: View): Message | undefined {
  let next: Message | undefined = message;
  for (const overlay of overlays) {
    if (next && overlay.target === seq && !next.deletion) next = overlay.apply(next);
  }
  return next;
}

/** Its time is over, whether the server has said so yet or not. */
function isOver(message: Message, nowMs: number): boolean {
  if (message.deletion) return message.deletion.reason === DeletionReason.EXPIRED;
  return message.expiresAtMs > 0 && message.expiresAtMs <= nowMs;
}

/** Changes of messages are shown at the messages; everything else is told. */
function isTold(act: Act): boolean {
  return !['edited', 'deleted', 'reacted', 'unreacted', 'unpinned'].includes(act.kind);
}
