// Times as people say them, by the browser's language.

import { words } from './words';

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'short' });
const dayThisYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayOfYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });
const fullThisYear = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const whenThisYear = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', hour: 'numeric', minute: '2-digit' });
const when = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

const DAY_MS = 24 * 3600 * 1000;

/** Days since 1970 where the person is. */
export function dayOf(ms: number): number {
  const date = new Date(ms);
  return Math.floor((ms - date.getTimezoneOffset() * 60_000) / DAY_MS);
}

/** Such as "14:05". */
export const time = (ms: number) => clock.format(ms);

/** The time today, the weekday this week, else the date. */
export function shortTime(ms: number, now = Date.now()): string {
  const days = dayOf(now) - dayOf(ms);
  if (days <= 0) return clock.format(ms);
  if (days < 7) return weekday.format(ms);
  return sameYear(ms, now) ? dayThisYear.format(ms) : dayOfYear.format(ms);
}

/** Such as "Today" or "Tuesday, 3 March". */
export function dayName(ms: number, now = Date.now()): string {
  const days = dayOf(now) - dayOf(ms);
  if (days === 0) return words.chat.today;
  if (days === 1) return words.chat.yesterday;
  return sameYear(ms, now) ? fullThisYear.format(ms) : full.format(ms);
}

/** A time ahead or behind, such as "today, 14:05" or "Mon, 3 Mar, 09:00". */
export function whenTime(ms: number, now = Date.now()): string {
  if (dayOf(ms) === dayOf(now)) return `${words.chat.today.toLowerCase()}, ${clock.format(ms)}`;
  return sameYear(ms, now) ? whenThisYear.format(ms) : when.format(ms);
}

/** Everything, for a tooltip. */
export const exactTime = (ms: number) => exact.format(ms);

function sameYear(a: number, b: number): boolean {
  return new Date(a).getFullYear() === new Date(b).getFullYear();
}
