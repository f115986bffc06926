import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  ConnectRequestSchema,
  ConnectResponseSchema,
  type ConnectRequest,
} from '../../gen/tertulia/live/v1/live_pb';
import { CallFailed, Reason } from '../api/failure';
import { backoff } from './backoff';
import { Connection, type ConnectionState, type News, type Socket, type World } from './connection';

type Frame = MessageInitShape<typeof ConnectResponseSchema>['frame'];

/** The server's end of a socket. */
class FakeSocket implements Socket {
  binaryType = '';
  readyState = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  heard: ConnectRequest['frame'][] = [];

  send(data: Uint8Array): void {
    this.heard.push(fromBinary(ConnectRequestSchema, data).frame);
  }

  close(): void {
    this.readyState = 3;
  }

  accept(): void {
    this.readyState = 1;
    this.onopen?.(undefined as never);
  }

  tell(frame: Frame): void {
    const bytes = toBinary(ConnectResponseSchema, create(ConnectResponseSchema, { frame }));
    this.onmessage?.({ data: bytes.slice().buffer });
  }

  welcome(more: { accessExpiresAtMs?: bigint } = {}): void {
    this.accept();
    this.tell({ case: 'welcome', value: { heartbeatMs: 30_000, accessExpiresAtMs: BigInt(10 ** 12), ...more } });
  }

  goodbye(code: number, comeBack: boolean, afterMs = 0): void {
    this.tell({ case: 'goodbye', value: { code, comeBack, afterMs, reason: 'test' } });
    this.drop(code);
  }

  drop(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

/** A world whose time is moved by hand. */
class FakeWorld implements World {
  time = 1_000_000;
  network = true;
  randomness = 0.5;
  sockets: FakeSocket[] = [];
  on: Parameters<World['watch']>[0] | undefined;
  #timers: Array<{ at: number; run: () => void }> = [];

  now = () => this.time;
  random = () => this.randomness;
  online = () => this.network;

  setTimeout(run: () => void, ms: number): unknown {
    const timer = { at: this.time + ms, run };
    this.#timers.push(timer);
    return timer;
  }

  clearTimeout(timer: unknown): void {
    this.#timers = this.#timers.filter((t) => t !== timer);
  }

  watch(on: Parameters<World['watch']>[0]): () => void {
    this.on = on;
    return () => (this.on = undefined);
  }

  open(): Socket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }

  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error('no socket was opened');
    return socket;
  }

  async pass(ms: number): Promise<void> {
    const until = this.time + ms;
    for (;;) {
      const next = this.#timers.filter((t) => t.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.time = next.at;
      this.clearTimeout(next);
      next.run();
      await settled();
    }
    this.time = until;
    await settled();
  }
}

/** Lets everything that is promised happen. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}

let world: FakeWorld;
let news: News[];
let states: ConnectionState[];
let tokens: string[];
let giveToken: (stale?: string) => Promise<string>;
let connection: Connection;

beforeEach(async () => {
  world = new FakeWorld();
  news = [];
  states = [];
  tokens = [];
  giveToken = async (stale) => {
    tokens.push(stale ?? '-');
    return `token-${tokens.length}`;
  };
  connection = new Connection({
    world,
    client: 'test',
    token: (stale) => giveToken(stale),
    cursor: async () => new Uint8Array([7]),
    onNews: (n) => news.push(n),
    onState: (s) => states.push(s),
  });
  connection.start();
  await settled();
});

describe('connection', () => {
  it('says hello with its token and cursor, and is online when welcomed', () => {
    world.socket.accept();
    expect(world.socket.heard[0]).toMatchObject({ case: 'hello', value: { accessToken: 'token-1', cursor: new Uint8Array([7]) } });
    expect(connection.state.kind).toBe('connecting');
    world.socket.welcome();
    expect(connection.state.kind).toBe('online');
    expect(news[0]).toMatchObject({ kind: 'missed' });
  });

  it('answers a heartbeat', () => {
    world.socket.welcome();
    world.socket.tell({ case: 'heartbeat', value: { cursor: new Uint8Array([8]) } });
    expect(world.socket.heard.at(-1)?.case).toBe('alive');
    expect(news.at(-1)?.kind).toBe('heartbeat');
  });

  it('connects again after twice the beat of silence, and not before', async () => {
    world.socket.welcome();
    await world.pass(59_000);
    world.socket.tell({ case: 'heartbeat', value: {} });
    await world.pass(59_999);
    expect(connection.state.kind).toBe('online');
    await world.pass(2);
    expect(connection.state.kind).toBe('waiting');
    await world.pass(500);
    expect(world.sockets).toHaveLength(2);
  });

  it('waits for as long as a goodbye says, and spreads itself beyond that', async () => {
    world.socket.welcome();
    world.socket.goodbye(4012, true, 20_000);
    const { retryAtMs } = connection.state as { retryAtMs: number };
    expect(retryAtMs - world.time).toBeGreaterThanOrEqual(20_000);
    await world.pass(19_999);
    expect(world.sockets).toHaveLength(1);
    await world.pass(2_000);
    expect(world.sockets).toHaveLength(2);
  });

  it('waits longer after each failure in a row, and forgets them once it has lived for a while', async () => {
    const waits: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      world.socket.drop();
      const { retryAtMs } = connection.state as { retryAtMs: number };
      waits.push(retryAtMs - world.time);
      await world.pass(retryAtMs - world.time);
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000]);
    world.socket.welcome();
    await world.pass(11_000);
    world.socket.drop();
    expect((connection.state as { retryAtMs: number }).retryAtMs - world.time).toBe(250);
  });

  it('does not come back when told not to', async () => {
    world.socket.welcome();
    world.socket.goodbye(4008, false);
    expect(connection.state).toEqual({ kind: 'stopped', why: 'too_many_sessions' });
    await world.pass(600_000);
    expect(world.sockets).toHaveLength(1);
    connection.retry();
    await settled();
    expect(world.sockets).toHaveLength(2);
  });

  it('asks for a new token when the old one was refused', async () => {
    world.socket.accept();
    world.socket.goodbye(4004, true);
    await world.pass(5_000);
    expect(tokens).toEqual(['-', 'token-1']);
    world.socket.accept();
    expect(world.socket.heard[0]).toMatchObject({ case: 'hello', value: { accessToken: 'token-2' } });
  });

  it('is signed out when the login was ended', () => {
    world.socket.welcome();
    world.socket.goodbye(4005, false);
    expect(connection.state).toEqual({ kind: 'stopped', why: 'signed_out' });
  });

  it('is signed out when there is no token to be had any more', async () => {
    giveToken = () => Promise.reject(new CallFailed('unauthenticated', '', Reason.BAD_REFRESH_TOKEN));
    world.socket.drop();
    await world.pass(5_000);
    expect(connection.state).toEqual({ kind: 'stopped', why: 'signed_out' });
  });

  it('tries again when the server could not be asked for a token', async () => {
    giveToken = () => Promise.reject(new CallFailed('no_connection', ''));
    world.socket.drop();
    await world.pass(5_000);
    expect(connection.state.kind).toBe('waiting');
  });

  it('renews its token before the end of the session', async () => {
    world.socket.welcome({ accessExpiresAtMs: BigInt(world.time + 15 * 60_000) });
    for (let i = 0; i < 28; i += 1) {
      await world.pass(30_000);
      world.socket.tell({ case: 'heartbeat', value: {} });
    }
    await settled();
    expect(world.socket.heard.filter((f) => f.case === 'renew')).toHaveLength(1);
    world.socket.tell({ case: 'renewed', value: { accessExpiresAtMs: BigInt(world.time + 15 * 60_000) } });
    expect(connection.state.kind).toBe('online');
  });

  it('does not renew in a loop when the clock of the browser is wrong', async () => {
    world.socket.welcome({ accessExpiresAtMs: 1n });
    await world.pass(19_000);
    expect(world.socket.heard.filter((f) => f.case === 'renew')).toHaveLength(0);
  });

  it('carries a call and its answer, and fails it with the reason of the server', async () => {
    world.socket.welcome();
    const good = connection.call('a.B/C', new Uint8Array([1]), 1000);
    const bad = connection.call('a.B/D', new Uint8Array([2]), 1000);
    const [first, second] = world.socket.heard.flatMap((f) => (f.case === 'call' ? [f.value] : []));
    expect(first).toMatchObject({ method: 'a.B/C', timeoutMs: 1000 });
    const error = { code: 'not_found', message: 'x', failure: { reason: Reason.CHAT_NOT_FOUND, requestId: 'r' } };
    world.socket.tell({ case: 'reply', value: { callId: second?.callId, result: { case: 'error', value: error } } });
    world.socket.tell({ case: 'reply', value: { callId: first?.callId, result: { case: 'proto', value: new Uint8Array([3]) } } });
    await expect(good).resolves.toEqual(new Uint8Array([3]));
    await expect(bad).rejects.toMatchObject({ reason: Reason.CHAT_NOT_FOUND, requestId: 'r', retryable: false });
  });

  it('keeps a call until there is a session, and fails what was under way when it is lost', async () => {
    const call = connection.call('a.B/C', new Uint8Array(), 10_000);
    world.socket.welcome();
    expect(world.socket.heard.at(-1)?.case).toBe('call');
    world.socket.drop();
    await expect(call).rejects.toMatchObject({ code: 'no_connection', retryable: true });
  });

  it('gives a call up after its time', async () => {
    world.socket.welcome();
    const call = connection.call('a.B/C', new Uint8Array(), 1000);
    void world.pass(1001);
    await expect(call).rejects.toMatchObject({ code: 'deadline_exceeded', retryable: true });
  });

  it('waits without trying while there is no network, and connects when there is', async () => {
    world.socket.welcome();
    world.network = false;
    world.on?.offline();
    expect(connection.state.kind).toBe('offline');
    await world.pass(600_000);
    expect(world.sockets).toHaveLength(1);
    world.network = true;
    world.on?.online();
    await settled();
    expect(world.sockets).toHaveLength(2);
  });

  it('notices after a sleep that the connection is dead', async () => {
    world.socket.welcome();
    world.time += 3_600_000;
    world.on?.visible();
    await settled();
    expect(world.sockets).toHaveLength(2);
  });

  it('catches up when it is told that it was behind', async () => {
    world.socket.welcome();
    world.socket.tell({ case: 'behind', value: { dropped: 3n } });
    await settled();
    expect(world.socket.heard.at(-1)).toMatchObject({ case: 'catchUp', value: { cursor: new Uint8Array([7]) } });
  });

  it('tells which chats are warm, and tells it again on another connection', async () => {
    world.socket.welcome();
    connection.warm([5n, 6n]);
    expect(world.socket.heard.at(-1)).toMatchObject({ case: 'warm', value: { chatIds: [5n, 6n] } });
    world.socket.drop();
    await world.pass(1000);
    world.socket.welcome();
    expect(world.socket.heard.at(-1)).toMatchObject({ case: 'warm', value: { chatIds: [5n, 6n] } });
  });

  it('hands on who types, receipts that move, and where warm chats end', () => {
    world.socket.welcome();
    world.socket.tell({ case: 'typing', value: { chatId: 5n, userId: 2n } });
    world.socket.tell({ case: 'receipts', value: { chatId: 5n } });
    world.socket.tell({ case: 'warmed', value: { heads: [{ chatId: 5n, seq: 3n }] } });
    expect(news.slice(-3).map((n) => n.kind)).toEqual(['typing', 'receipts', 'warmed']);
  });

  it('hands on a notice from outside', () => {
    world.socket.welcome();
    world.socket.tell({ case: 'notice', value: { kind: 'announcement', text: 'We restart at noon.' } });
    expect(news.at(-1)).toMatchObject({ kind: 'notice', notice: { kind: 'announcement', text: 'We restart at noon.' } });
  });

  it('stays away when it was kicked, and comes back as told when it was moved', async () => {
    world.socket.welcome();
    world.socket.goodbye(4014, true, 5_000);
    expect((connection.state as { retryAtMs: number }).retryAtMs - world.time).toBeGreaterThanOrEqual(5_000);
    await world.pass(7_000);
    world.socket.welcome();
    world.socket.goodbye(4006, false);
    expect(connection.state).toEqual({ kind: 'stopped', why: 'kicked' });
  });

  it('does not listen to a socket that it has left', async () => {
    const old = world.socket;
    old.welcome();
    old.drop();
    await world.pass(60_000);
    const before = news.length;
    old.tell({ case: 'chatEvent', value: {} });
    expect(news).toHaveLength(before);
  });
});

describe('backoff', () => {
  it('is spread from zero to a ceiling that grows to 30 seconds', () => {
    expect(backoff(0, () => 0)).toBe(0);
    expect(backoff(0, () => 1)).toBe(500);
    expect(backoff(3, () => 1)).toBe(4000);
    expect(backoff(50, () => 1)).toBe(30_000);
  });
});
