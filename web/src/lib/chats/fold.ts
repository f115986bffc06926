// What an event makes of a message: the table of docs/protocol/sync.md, and no other rule.

import type { UserId } from '../api/ids';
import type { Event, Message } from './model';

/** The messages that an event changes, when they are held. */
export function targetsOf(event: Event): readonly number[] {
  if (event.message) return event.message.threadSeq > 0 ? [event.message.threadSeq] : [];
  const { act } = event;
  if (!act) return [];
  if (act.kind === 'deleted') return act.targets;
  return 'target' in act ? [act.target] : [];
}

/** The target as it is after the event; itself when nothing changes. */
export function fold(event: Event, target: Event, me: UserId): Event {
  const { message } = target;
  // The rule of the change: what came with an answer holds later changes already.
  if (!message || event.seq <= message.changedSeq || !targetsOf(event).includes(target.seq)) return target;
  const next = changed(event, message, me);
  return next ? { ...target, message: { ...next, changedSeq: event.seq } } : target;
}

function changed(event: Event, message: Message, me: UserId): Message | undefined {
  const { act } = event;
  if (event.message) return { ...message, replyCount: message.replyCount + 1, lastReplySeq: event.seq };
  switch (act?.kind) {
    case 'edited': {
      const { mentions: _, ...rest } = message;
      const text = message.hidden ? '' : act.text;
      return { ...rest, text, editedAtMs: event.atMs, ...(act.mentions && { mentions: act.mentions }) };
    }
    case 'deleted':
      return deleted(message, { reason: act.reason, by: event.actorId });
    case 'reacted':
    case 'unreacted':
      return { ...message, reactions: reacted(message.reactions, act.emoji, act.kind === 'reacted' ? 1 : -1, event.actorId === me) };
    case 'pinned':
    case 'unpinned':
      return { ...message, pinned: act.kind === 'pinned' };
    default:
      return undefined;
  }
}

/** A tombstone: the place and the ids stay, what was said goes. */
function deleted(message: Message, deletion: NonNullable<Message['deletion']>): Message {
  const { mentions: _m, forward: _f, ...rest } = message;
  return { ...rest, deletion, hidden: false, text: '', editedAtMs: 0, replyTo: 0, reactions: [], pinned: false, expiresAtMs: 0 };
}

function reacted(reactions: Message['reactions'], emoji: string, by: 1 | -1, mine: boolean): Message['reactions'] {
  const known = reactions.find((r) => r.emoji === emoji);
  if (!known) return by === 1 ? [...reactions, { emoji, count: 1, mine }] : reactions;
  const next = { emoji, count: known.count + by, mine: mine ? by === 1 : known.mine };
  return reactions.flatMap((r) => (r !== known ? r : next.count > 0 ? next : []));
}
