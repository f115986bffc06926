import { create } from '@bufbuild/protobuf';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PresenceState, UserPresenceSchema } from '../../gen/tertulia/presence/v1/presence_pb';
import type { Carrier } from '../api/call';
import { chatId, userId } from '../api/ids';
import { Presences } from './presence.svelte';
import { HIDDEN_MS, STILL_MS, watchRest, type Page } from './rest';
import { presenceWords } from './words';

const [ana, bob] = [userId(1n), userId(2n)];
const NOW_MS = 1_800_000_000_000;

function presences() {
  const watched: string[] = [];
  const carrier: Carrier = { call: () => Promise.resolve(new Uint8Array()) };
  const known = new Presences(carrier, { watch: (chats) => watched.push(chats.join(' ')) });
  return { known, watched };
}

const told = (id: bigint, state: PresenceState, lastSeenAtMs = 0n) => create(UserPresenceSchema, { userId: id, state, lastSeenAtMs });

test('who comes, rests and goes is known, and of whom nothing is told nothing', () => {
  const { known } = presences();
  known.heard(told(1n, PresenceState.ONLINE));
  known.heard(told(2n, PresenceState.OFFLINE, 60_000n));
  expect([known.of(ana), known.of(bob)]).toEqual([{ kind: 'online' }, { kind: 'offline', seenAtMs: 60_000 }]);
  known.heard(told(1n, PresenceState.UNSPECIFIED));
  expect(known.of(ana)).toBeUndefined();
});

test('a whole answer takes the place of what was known', () => {
  const { known } = presences();
  known.heard(told(1n, PresenceState.ONLINE));
  known.heardAll([told(2n, PresenceState.AWAY)]);
  expect([known.of(ana), known.of(bob)]).toEqual([undefined, { kind: 'away' }]);
  known.forget();
  expect(known.of(bob)).toBeUndefined();
});

test('the chats in sight are watched, the open one first, and said only when they are others', async () => {
  const { known, watched } = presences();
  known.list([chatId(5n), chatId(6n)]);
  known.list([chatId(6n), chatId(5n)]);
  known.open(chatId(7n));
  expect(watched).toEqual(['5 6', '7 6 5']);
  await known.share(false);
  expect(known.shares).toBe(false);
  expect(watched).toHaveLength(3);
});

test('a chat is watched anew when somebody comes into it', () => {
  const { known, watched } = presences();
  known.open(chatId(7n));
  known.members(chatId(7n), 1);
  known.members(chatId(7n), 1);
  known.members(chatId(5n), 9);
  expect(watched).toHaveLength(1);
  known.members(chatId(7n), 4);
  expect(watched).toHaveLength(2);
});

test('presence is said as people say it', () => {
  const seen = (agoMs: number) => presenceWords({ kind: 'offline', seenAtMs: NOW_MS - agoMs }, NOW_MS);
  expect(presenceWords(undefined)).toBe('');
  expect([presenceWords({ kind: 'online' }), presenceWords({ kind: 'away' })]).toEqual(['online', 'away']);
  expect(presenceWords({ kind: 'offline', seenAtMs: 0 })).toBe('offline');
  expect(seen(10_000)).toBe('last seen just now');
  expect(seen(5 * 60_000)).toBe('last seen 5 minutes ago');
  expect(seen(61 * 60_000)).toBe('last seen 1 hour ago');
  expect(seen(50 * 3_600_000)).toBe('last seen 2 days ago');
});

class FakePage extends EventTarget implements Page {
  visibilityState = 'visible';
  turn(visibilityState: string) {
    this.visibilityState = visibilityState;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('who does not touch anything rests, and comes back with a touch', () => {
  const page = new FakePage();
  const said: boolean[] = [];
  const stop = watchRest(page, (idle) => said.push(idle));
  vi.advanceTimersByTime(STILL_MS - 1);
  page.dispatchEvent(new Event('keydown'));
  vi.advanceTimersByTime(STILL_MS - 1);
  expect(said).toEqual([]);
  vi.advanceTimersByTime(2);
  expect(said).toEqual([true]);
  page.dispatchEvent(new Event('pointermove'));
  page.dispatchEvent(new Event('pointermove'));
  expect(said).toEqual([true, false]);
  stop();
  vi.advanceTimersByTime(STILL_MS * 2);
  expect(said).toEqual([true, false]);
});

test('who looks elsewhere for a moment does not rest, and who stays away does', () => {
  const page = new FakePage();
  const said: boolean[] = [];
  watchRest(page, (idle) => said.push(idle));
  page.turn('hidden');
  vi.advanceTimersByTime(HIDDEN_MS - 1);
  page.turn('visible');
  vi.advanceTimersByTime(HIDDEN_MS);
  expect(said).toEqual([]);
  page.turn('hidden');
  vi.advanceTimersByTime(HIDDEN_MS);
  expect(said).toEqual([true]);
  page.turn('visible');
  expect(said).toEqual([true, false]);
});
