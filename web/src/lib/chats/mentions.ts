// Whom a text calls by name: `@name`, `@everyone`, `@admins`.

import type { UserId } from '../api/ids';
import { Role, type Mentions } from './model';

/** A name after an at sign that does not stand inside a word or an address. */
export const MENTION = /(?<![\p{L}\p{N}_.@-])@([a-z][a-z0-9._-]{1,31})/giu;

/** Whom one could mention. */
export interface Candidate {
  name: string;
  label: string;
  /** Missing for everybody of a kind. */
  id?: UserId;
}

export const EVERYONE = 'everyone';
export const ADMINS = 'admins';

/** The mentions of a text. `userOf` gives the member with a name; `all` allows calling everybody. */
export function mentionsIn(text: string, userOf: (name: string) => UserId | undefined, all: boolean): Mentions | undefined {
  const userIds = new Set<UserId>();
  let everyone = false;
  let role = Role.UNSPECIFIED;
  for (const match of text.matchAll(MENTION)) {
    const name = nameOf(match[1] ?? '');
    if (name === EVERYONE) everyone ||= all;
    else if (name === ADMINS) role = all ? Role.ADMIN : role;
    else {
      const user = userOf(name);
      if (user) userIds.add(user);
    }
  }
  if (userIds.size === 0 && !everyone && role === Role.UNSPECIFIED) return undefined;
  return { userIds: [...userIds], everyone, role };
}

/** A name as it is registered: in small letters, without the full stop of the sentence. */
export const nameOf = (written: string) => written.toLowerCase().replace(/[.-]+$/, '');

/** What is being typed after an at sign, when the caret stands behind it. */
export function typedMention(text: string, caret: number): { from: number; query: string } | undefined {
  const before = text.slice(0, caret);
  const match = /(?:^|[^\p{L}\p{N}_.@-])@([\p{L}\p{N}._-]{0,32})$/u.exec(before);
  if (!match) return undefined;
  const query = match[1] ?? '';
  return { from: caret - query.length - 1, query: query.toLowerCase() };
}
