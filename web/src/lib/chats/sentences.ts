// What happened in a chat as a sentence, out of codes and names.

import type { UserId } from '../api/ids';
import { words } from '../ui/words';
import type { Event, Act } from './model';

/** Names are given to those who look: `you` for the person. */
export interface Names {
  of(user: UserId): string;
  isMe(user: UserId): boolean;
}

/** People that a sentence names; the others are counted. */
const NAMED_MAX = 5;

export function sentence({ act, actorId }: Pick<Event, 'act' | 'actorId'>, names: Names): string {
  const text = words.event;
  const who = actorId === '0' ? text.server : names.isMe(actorId) ? text.you : names.of(actorId);
  const whom = (user: UserId) => (names.isMe(user) ? text.youObject : names.of(user));
  switch (act?.kind) {
    case 'created':
      return text.created(who, act.title);
    case 'changed':
      return change(act, who);
    case 'added':
      return text.added(who, act.userIds.slice(0, NAMED_MAX).map(whom), Math.max(0, act.userIds.length - NAMED_MAX));
    case 'joined':
      return text.joined(who, act.invitedBy === '0' ? '' : whom(act.invitedBy));
    case 'left':
      return text.left(who);
    case 'removed':
      return text.removed(who, whom(act.userId));
    case 'banned':
      return text.banned(who, whom(act.userId));
    case 'unbanned':
      return text.unbanned(who, whom(act.userId));
    case 'role':
      return text.role(who, whom(act.userId), act.role);
    case 'pinned':
      return text.pinned(who);
    default:
      return '';
  }
}

function change(act: Extract<Act, { kind: 'changed' }>, who: string): string {
  const text = words.event;
  const { title, topic, avatar, ttlS } = act;
  if ([title, topic, avatar, ttlS].filter((field) => field !== undefined).length > 1) return text.several(who);
  if (title !== undefined) return text.title(who, title);
  if (topic !== undefined) return text.topic(who, topic);
  if (avatar !== undefined) return text.avatar(who, avatar);
  return text.ttl(who, ttlS ?? 0);
}

/** Everybody whom an event names, so that their names can be asked for. */
export function namedIn({ act, actorId, message }: Pick<Event, 'act' | 'actorId' | 'message'>): UserId[] {
  const users = [actorId];
  if (act && 'userId' in act) users.push(act.userId);
  if (act && 'userIds' in act) users.push(...act.userIds.slice(0, NAMED_MAX));
  if (act?.kind === 'joined') users.push(act.invitedBy);
  if (message?.forward) users.push(message.forward.userId);
  if (message?.deletion) users.push(message.deletion.by);
  if (message?.mentions) users.push(...message.mentions.userIds);
  return users.filter((user) => user !== '0');
}
