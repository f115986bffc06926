// Whether somebody is there, as people say it.

import { words } from '../ui/words';
import type { Presence } from './presence.svelte';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** Such as "online" or "last seen 5 minutes ago"; empty when nothing is known. */
export function presenceWords(presence: Presence | undefined, nowMs = Date.now()): string {
  const text = words.presence;
  if (!presence) return '';
  if (presence.kind !== 'offline') return text[presence.kind];
  if (presence.seenAtMs === 0) return text.offline;
  const ago = Math.max(0, nowMs - presence.seenAtMs);
  if (ago < MINUTE_MS) return text.justNow;
  if (ago < HOUR_MS) return text.minutesAgo(Math.floor(ago / MINUTE_MS));
  if (ago < DAY_MS) return text.hoursAgo(Math.floor(ago / HOUR_MS));
  return text.daysAgo(Math.floor(ago / DAY_MS));
}
