// The client on a stage: the real screens over a server in memory, with people who have talked. For looking
// at every screen without a server; `npm run dev`, then /e2e/stage/. The address chooses what is there:
// ?empty has no chats, and window.stage lets others speak.

import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { mount } from 'svelte';
import '../../src/app.css';
import { ConnectRequestSchema, ConnectResponseSchema } from '../../src/gen/tertulia/live/v1/live_pb';
import { PresenceState } from '../../src/gen/tertulia/presence/v1/presence_pb';
import { CallFailed } from '../../src/lib/api/failure';
import { FakeServer } from '../../src/lib/chats/fake';
import { ChatKind, Role } from '../../src/lib/chats/model';
import { browserWorld, type Socket } from '../../src/lib/live/connection';
import { Session } from '../../src/lib/session/session.svelte';
import { Router } from '../../src/lib/ui/router.svelte';
import { Theme } from '../../src/lib/ui/theme.svelte';
import Home from '../../src/routes/Home.svelte';

type Frame = MessageInitShape<typeof ConnectResponseSchema>['frame'];

const [ME, ANA, BEA, CARL, DORA, EMIL] = [101n, 102n, 103n, 104n, 105n, 106n];
const empty = new URLSearchParams(location.search).has('empty');
const server = new FakeServer();
const sockets = new Set<StageSocket>();

class StageSocket implements Socket {
  binaryType = 'arraybuffer';
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  #carrier = server.as(ME, 'stage-device-0001');

  constructor() {
    setTimeout(() => {
      this.readyState = 1;
      sockets.add(this);
      this.onopen?.(undefined as never);
    });
  }

  tell(frame: Frame): void {
    const bytes = toBinary(ConnectResponseSchema, create(ConnectResponseSchema, { frame: frame ?? { case: undefined } }));
    setTimeout(() => this.onmessage?.({ data: bytes.slice().buffer }), 5);
  }

  send(data: Uint8Array): void {
    const { frame } = fromBinary(ConnectRequestSchema, data);
    if (frame.case === 'hello') this.#welcome();
    else if (frame.case === 'call') void this.#call(frame.value.callId, frame.value.method, frame.value.request.value as Uint8Array);
    else if (frame.case === 'warm') {
      const heads = frame.value.chatIds.flatMap((id) => (server.chats.has(id) ? { chatId: id, seq: BigInt(server.chat(id).head) } : []));
      this.tell({ case: 'warmed', value: { heads } });
    } else if (frame.case === 'watch') {
      const seenAtMs = Math.floor((Date.now() - 5 * 60_000) / 60_000) * 60_000;
      const presences = [
        { userId: ANA, state: PresenceState.ONLINE },
        { userId: BEA, state: PresenceState.AWAY },
        { userId: CARL, state: PresenceState.OFFLINE, lastSeenAtMs: BigInt(seenAtMs) },
      ];
      this.tell({ case: 'watched', value: server.sharePresence ? { chatIds: frame.value.chatIds, presences } : { notShared: true } });
    }
  }

  close(): void {
    this.readyState = 3;
    sockets.delete(this);
  }

  #welcome(): void {
    const chats = [...server.chats.values()].filter((chat) => chat.seats.has(ME)).map((chat) => server.told(chat.id, ME));
    const receipts = [...server.chats.values()].map((chat) => ({
      chatId: chat.id,
      receipts: [...chat.seats].map(([userId, seat]) => ({ userId, seenSeq: BigInt(seat.seen), deliveredSeq: BigInt(Math.max(seat.seen, seat.delivered)) })),
    }));
    const missed = {
      cursor: new Uint8Array([1]),
      answer: { case: 'reset' as const, value: { chats, ownHead: BigInt(server.ownHead(ME)), epoch: `stage-${Date.now()}` } },
      receipts,
    };
    this.tell({ case: 'welcome', value: { sessionId: 'stage', userId: ME, heartbeatMs: 3_600_000, accessExpiresAtMs: BigInt(Date.now() + 86_400_000), missed } });
  }

  async #call(callId: bigint, method: string, request: Uint8Array): Promise<void> {
    try {
      this.tell({ case: 'reply', value: { callId, result: { case: 'proto', value: await this.#carrier.call(method, request, 0) } } });
    } catch (thrown) {
      const { code, message, reason } = thrown as CallFailed;
      this.tell({ case: 'reply', value: { callId, result: { case: 'error', value: { code, message, failure: { reason, requestId: 'stage-0001' } } } } });
    }
  }
}

server.onFrame = (user, frame) => {
  if (user === ME) for (const socket of sockets) socket.tell(frame);
};

function people(): void {
  const names: Array<[bigint, string, string, string]> = [
    [ME, 'mila', 'Mila Duarte', 'Editor. Tea before noon.'],
    [ANA, 'ana', 'Ana Beltrán', 'Writes at night'],
    [BEA, 'bea.k', 'Beatrice Kowalski', 'Mountains, maps'],
    [CARL, 'carl', 'Carl Nyström', ''],
    [DORA, 'dora', 'Dora Petrović', 'On leave until Monday'],
    [EMIL, 'emil', 'Émile Fontaine', ''],
  ];
  for (const [id, name, displayName, about] of names) server.users.set(id, { name, displayName, about });
  for (let i = 0; i < 30; i += 1) server.users.set(200n + BigInt(i), { name: `guest${i}`, displayName: `Guest ${i + 1}`, about: '' });
}

function talks(): void {
  const now = Date.now();
  server.created = now - 4 * 86_400_000;
  let at = now - 3 * 86_400_000;
  server.now = () => (at += 97_000);
  const say = (chat: bigint, who: bigint, text: string, more = {}) => server.say(chat, who, text, more);

  // A group with everything in it.
  const group = server.open(1n, [BEA, ME, ANA, CARL, DORA], ChatKind.GROUP, 'Sunday writers');
  server.change(1n, BEA, { topic: 'Drafts on Friday, tea on Sunday', avatar: '✍️' });
  group.seat(ME).role = Role.ADMIN;
  say(1n, BEA, 'Welcome, everybody! The table at the window is ours from **four** on.');
  say(1n, ANA, 'Lovely. I bring the second chapter.');
  say(1n, ANA, 'And a cake, if the oven agrees 🍰');
  const first = say(1n, ME, 'I read the first one twice.\n\n> The sea was the colour of a closed door.\n\nThat line stays, whatever else goes.');
  server.react(1n, ANA, first, '❤️');
  server.react(1n, BEA, first, '❤️');
  server.react(1n, CARL, first, '👏');
  at = now - 86_400_000;
  server.add(1n, BEA, [EMIL]);
  const plan = say(1n, CARL, 'A plan for the issue:\n\n1. Editorial, *two pages*\n2. Ana’s chapter\n3. Letters\n\nWho takes the letters?');
  server.pin(1n, BEA, plan);
  const deleted = say(1n, CARL, 'wrong window');
  server.remove(1n, CARL, [deleted]);
  const answer = say(1n, ME, 'The letters are mine.', { replyTo: plan });
  server.edit(1n, ME, answer, 'The letters are mine, unless @dora wants them.', { userIds: [DORA] });
  const root = say(1n, DORA, 'Has anybody a script that counts words? Mine dies on footnotes:\n\n```python\nwords = [w for line in text for w in line.split()]\nprint(len(words))  # footnotes count twice, alas\n```');
  say(1n, CARL, 'Strip them first: `re.sub(r"\\[\\d+\\]", "", text)`', { thread: root });
  say(1n, DORA, 'Works, thank you!', { thread: root });
  server.react(1n, DORA, root, '🎉');
  server.setRole(1n, BEA, ANA, Role.ADMIN);
  at = now - 3 * 3_600_000;
  const mine = say(1n, ME, 'See https://example.org/style_guide for quotes and dashes.');
  say(1n, ME, '👍');
  for (const user of [ANA, BEA]) server.read(1n, user, mine + 1);
  server.read(1n, ME, mine + 1);
  say(1n, EMIL, 'Bonjour! Émile here, I draw the covers.');
  say(1n, EMIL, '@mila do you have the ~~old~~ new logo?', { mentions: { userIds: [ME] } });
  say(1n, BEA, '@everyone tomorrow at four, same table.', { mentions: { everyone: true } });

  // A direct chat, all read.
  server.open(2n, [ME, ANA]);
  say(2n, ANA, 'Are you coming on Sunday?');
  say(2n, ME, 'Yes. With the proofs, if the printer keeps its word.');
  say(2n, ANA, 'It never does 😅');
  const seen = say(2n, ME, 'Then with tea.');
  server.read(2n, ANA, seen);
  const delivered = say(2n, ME, 'And an umbrella, look at the sky.');
  server.chat(2n).seat(ANA).delivered = delivered;

  // A channel that is only read, one that is muted, one put away, one with nothing in it.
  const channel = server.open(3n, [CARL, ME, ANA, BEA], ChatKind.CHANNEL, 'Announcements');
  channel.avatar = '📣';
  channel.seat(ME).role = Role.READER;
  for (let i = 0; i < 30; i += 1) channel.seats.set(200n + BigInt(i), { ...channel.seat(ANA), role: Role.READER });
  say(3n, CARL, '**Issue 12 is out.** Read it at https://example.org/12');
  server.read(3n, ME, 9);
  server.open(4n, [DORA, ME, CARL], ChatKind.GROUP, 'Lunch');
  server.chat(4n).seat(ME).settings.mutedUntilMs = -1n;
  for (const text of ['Soup today?', 'Soup.', 'There is no soup.']) say(4n, DORA, text);
  server.open(5n, [ME, CARL], ChatKind.GROUP, 'Old printer');
  server.chat(5n).seat(ME).settings.archived = true;
  server.open(6n, [ME, BEA]);
  server.chat(2n).seat(ME).settings.favorite = true;
  server.open(7n, [ME, EMIL], ChatKind.GROUP, 'Covers');
  server.chat(7n).seat(ME).draft = { text: 'Could we try it in', replyToSeq: 0n, atMs: 1n };
  server.chat(1n).invites.push({ code: 'K3vQx9_zLw2RfT7bYp0s', uses: 2, usesMax: 10, expiresAtMs: BigInt(now + 5 * 86_400_000), role: Role.MEMBER, createdBy: BEA });
  const guests = server.open(8n, [EMIL, ANA, CARL], ChatKind.GROUP, 'Cover art club');
  Object.assign(guests, { topic: 'Ink, gouache, and the printer’s revenge', avatar: '🎨' });
  guests.invites.push({ code: 'Inv1te-to_cover-art0', uses: 0, usesMax: 0, expiresAtMs: 0n, role: Role.MEMBER, createdBy: EMIL });
  server.scheduled.set(ME, [{ scheduledId: 77n, chatId: 1n, text: 'The proofs are here.', sendAtMs: BigInt(now + 20 * 3_600_000) } as never]);
  server.now = () => Date.now();
}

people();
if (!empty) talks();

const credentials = {
  userId: ME.toString(),
  loginId: '1',
  deviceId: 'stage-device-0001',
  accessToken: 'stage',
  accessExpiresAtMs: Date.now() + 86_400_000,
  refreshToken: 'stage',
};
localStorage.setItem('tertulia.credentials', JSON.stringify(credentials));
const session = new Session({ identity: {} as never, storage: localStorage, alone: (work) => work(), deviceName: 'stage' });
const world = { ...browserWorld(), open: () => new StageSocket() };
Object.assign(window, { stage: { server, ME, ANA, BEA, CARL, DORA, EMIL } });

const target = document.getElementById('app');
if (target && session.account) mount(Home, { target, props: { session, account: session.account, theme: new Theme(), router: new Router(), world } });
