// What was typed and not sent, until the tab is closed.

import type { ChatId } from '../api/ids';

const PREFIX = 'tertulia.draft.';

export const draftOf = (id: ChatId): string => sessionStorage.getItem(PREFIX + id) ?? '';

export function keepDraft(id: ChatId, text: string): void {
  if (text === '') sessionStorage.removeItem(PREFIX + id);
  else sessionStorage.setItem(PREFIX + id, text);
}

export function forgetDrafts(): void {
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
}
