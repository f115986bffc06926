// The live connection: owns the socket, comes back when it is lost, carries calls, and hands every other
// frame to its owner. It knows frames and tokens, and no chats.

import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { CallFailed, fromCallError, noConnection } from '../api/failure';
import type { Carrier } from '../api/call';
import {
  ConnectRequestSchema,
  ConnectResponseSchema,
  type CaughtUp,
  type ChatEvent,
  type Goodbye,
  type Heartbeat,
  type Missed,
  type Notice,
  type OwnEvent,
  type Reply,
  type Typing,
  type Warmed,
  type Watched,
  type Welcome,
} from '../../gen/tertulia/live/v1/live_pb';
import type { ChatReceipts } from '../../gen/tertulia/chats/v1/model_pb';
import type { UserPresence } from '../../gen/tertulia/presence/v1/presence_pb';
import { backoff } from './backoff';

/** What the owner shows of the connection. */
export type ConnectionState =
  | { kind: 'connecting' }
  | { kind: 'online' }
  /** Lost; the next attempt is at `retryAtMs`. */
  | { kind: 'waiting'; retryAtMs: number }
  /** The browser says that there is no network. */
  | { kind: 'offline' }
  /** Only the person can help: signed out, too many sessions, ended by the operator, or the server refuses this client. */
  | { kind: 'stopped'; why: 'signed_out' | 'too_many_sessions' | 'kicked' | 'refused' };

/** What is handed on, in the order in which it came. */
export type News =
  | { kind: 'missed'; missed: Missed | undefined; first: boolean }
  | { kind: 'chat_event'; event: ChatEvent }
  | { kind: 'own_event'; event: OwnEvent }
  | { kind: 'heartbeat'; heartbeat: Heartbeat }
  | { kind: 'warmed'; warmed: Warmed }
  | { kind: 'typing'; typing: Typing }
  /** Said from outside; kept nowhere. */
  | { kind: 'notice'; notice: Notice }
  | { kind: 'receipts'; receipts: ChatReceipts }
  | { kind: 'presence'; presence: UserPresence }
  | { kind: 'watched'; watched: Watched };

/** The part of a WebSocket that is used. */
export interface Socket {
  binaryType: string;
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** The world as the connection sees it; tests give another one. */
export interface World {
  now(): number;
  random(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  online(): boolean;
  /** Calls back on network and visibility changes; gives what ends it. */
  watch(on: { online(): void; offline(): void; visible(): void }): () => void;
  open(): Socket;
}

export interface ConnectionOptions {
  world: World;
  /** Name and version of this client. */
  client: string;
  /** Gives a good access token, another one than `stale`. Rejects with CallFailed. */
  token(stale?: string): Promise<string>;
  /** The newest stored cursor. */
  cursor(): Promise<Uint8Array>;
  onNews(news: News): void;
  onState(state: ConnectionState): void;
}

/** How long opening and the welcome may take together. */
const WELCOME_TIMEOUT_MS = 15_000;
/** Calls that may wait for their replies; more fail at once. */
const CALLS_MAX = 256;
/** An access token is replaced this long before its end. */
const RENEW_BEFORE_MS = 60_000;
/** Whatever the clocks say, tokens are not renewed more often than this. */
const RENEW_EVERY_MIN_MS = 20_000;
/** A session that lived this long makes the next loss count as the first one. */
const SETTLED_MS = 10_000;

const CLOSE_NOT_SIGNED_IN = 4003;
const CLOSE_TOKEN_EXPIRED = 4004;
const CLOSE_LOGIN_ENDED = 4005;
const CLOSE_KICKED = 4006;
const CLOSE_TOO_MANY_SESSIONS = 4008;

interface Waiting {
  resolve(answer: Uint8Array): void;
  reject(failure: CallFailed): void;
  timer: unknown;
  /** The frame, kept until there is a session to send it over. */
  frame: Uint8Array<ArrayBuffer>;
  sent: boolean;
}

type Frame = MessageInitShape<typeof ConnectRequestSchema>['frame'];

export class Connection implements Carrier {
  #options: ConnectionOptions;
  #world: World;
  #state: ConnectionState = { kind: 'connecting' };
  #socket: Socket | undefined;
  /** Grows with every attempt: what an older attempt still does is ignored. */
  #attempt = 0;
  #losses = 0;
  #token = '';
  #staleToken: string | undefined;
  #refusals = 0;
  #goodbye: Goodbye | undefined;
  #heartbeatMs = 30_000;
  #heardAt = 0;
  #welcomedAt = 0;
  #calls = new Map<bigint, Waiting>();
  #nextCall = 1n;
  #warm: bigint[] = [];
  #watched: bigint[] = [];
  #idle = false;
  #retryTimer: unknown;
  #silenceTimer: unknown;
  #renewTimer: unknown;
  #unwatch: (() => void) | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#world = options.world;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Connects, and stays connected until stopped. */
  start(): void {
    this.#unwatch ??= this.#world.watch({
      online: () => this.#nudge(),
      offline: () => this.#leave({ kind: 'offline' }),
      visible: () => this.#onVisible(),
    });
    this.#connect();
  }

  /** Ends the connection for good. */
  stop(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#leave({ kind: 'stopped', why: 'signed_out' });
    this.#failCalls(noConnection('the connection was ended'), true);
  }

  /** Tries again at once, whatever the state; for a button. */
  retry(): void {
    if (this.#state.kind === 'online' || this.#state.kind === 'connecting') return;
    this.#losses = 0;
    this.#refusals = 0;
    this.#connect();
  }

  /** Asks for what was missed, after frames were dropped on either side. */
  async catchUp(): Promise<void> {
    const attempt = this.#attempt;
    const cursor = await this.#options.cursor();
    if (attempt === this.#attempt && this.#state.kind === 'online') {
      this.#send({ case: 'catchUp', value: { cursor } });
    }
  }

  /** Chooses the chats that are about to be shown; they stay chosen over a loss of the connection. */
  warm(chats: readonly bigint[]): void {
    this.#warm = [...chats];
    if (this.#state.kind === 'online') this.#send({ case: 'warm', value: { chatIds: this.#warm } });
  }

  /** Chooses the chats of which it is heard who is there; they stay chosen over a loss of the connection. */
  watch(chats: readonly bigint[]): void {
    this.#watched = [...chats];
    if (this.#state.kind === 'online') this.#send({ case: 'watch', value: { chatIds: this.#watched } });
  }

  /** Says that nobody uses this client, or that somebody does again. */
  rest(idle: boolean): void {
    this.#idle = idle;
    if (this.#state.kind === 'online') this.#send({ case: 'rest', value: { idle } });
  }

  /** Calls a method; while there is no session the call waits for one until its time is over. */
  call(method: string, request: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.#state.kind === 'stopped') return Promise.reject(noConnection('the connection was ended'));
    if (this.#calls.size >= CALLS_MAX) return Promise.reject(noConnection('too many calls are waiting'));
    const callId = this.#nextCall++;
    const frame = encode({
      case: 'call',
      value: { callId, method, request: { case: 'proto', value: request }, timeoutMs },
    });
    return new Promise((resolve, reject) => {
      const timer = this.#world.setTimeout(() => {
        this.#calls.delete(callId);
        const online = this.#state.kind === 'online';
        reject(
          online ? new CallFailed('deadline_exceeded', 'no answer in time') : noConnection('there is no connection'),
        );
      }, timeoutMs);
      const waiting: Waiting = { resolve, reject, timer, frame, sent: false };
      this.#calls.set(callId, waiting);
      if (this.#state.kind === 'online') this.#sendCall(waiting);
    });
  }

  // Coming and going

  #connect(): void {
    this.#drop();
    if (!this.#world.online()) return this.#setState({ kind: 'offline' });
    this.#setState({ kind: 'connecting' });
    const attempt = this.#attempt;
    this.#silenceTimer = this.#world.setTimeout(() => this.#lost('no welcome in time'), WELCOME_TIMEOUT_MS);
    void this.#open(attempt);
  }

  async #open(attempt: number): Promise<void> {
    const current = () => attempt === this.#attempt;
    let cursor: Uint8Array;
    try {
      this.#token = await this.#options.token(this.#staleToken);
      if (!current()) return;
      this.#staleToken = undefined;
      cursor = await this.#options.cursor();
    } catch (thrown) {
      if (!current()) return;
      if (thrown instanceof CallFailed && thrown.signedOut) return this.#leave({ kind: 'stopped', why: 'signed_out' });
      return this.#lost('there is no token', thrown instanceof CallFailed ? thrown.retryAfterMs : 0);
    }
    if (!current()) return;
    const socket = this.#world.open();
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      if (!current()) return;
      this.#send({ case: 'hello', value: { accessToken: this.#token, cursor, client: this.#options.client } });
    };
    socket.onmessage = ({ data }) => {
      if (current() && data instanceof ArrayBuffer) this.#hear(new Uint8Array(data));
    };
    socket.onclose = ({ code }) => {
      if (current()) this.#closed(code);
    };
  }

  #closed(code: number): void {
    const goodbye = this.#goodbye;
    const why = goodbye?.code ?? code;
    switch (why) {
      case CLOSE_LOGIN_ENDED:
        return this.#leave({ kind: 'stopped', why: 'signed_out' });
      case CLOSE_KICKED:
        return this.#leave({ kind: 'stopped', why: 'kicked' });
      case CLOSE_TOO_MANY_SESSIONS:
        return this.#leave({ kind: 'stopped', why: 'too_many_sessions' });
      case CLOSE_NOT_SIGNED_IN:
      case CLOSE_TOKEN_EXPIRED:
        // One refresh decides: it gives a token that is good, or says that the login is over.
        this.#refusals += 1;
        if (this.#refusals > 3) return this.#leave({ kind: 'stopped', why: 'refused' });
        this.#staleToken = this.#token;
        return this.#lost('the token was refused');
    }
    if (goodbye && !goodbye.comeBack) return this.#leave({ kind: 'stopped', why: 'refused' });
    this.#lost('closed', goodbye?.afterMs ?? 0);
  }

  /** Comes back later: not before the server said, and spread by our own backoff. */
  #lost(_why: string, afterMs = 0): void {
    const settled = this.#welcomedAt > 0 && this.#world.now() - this.#welcomedAt >= SETTLED_MS;
    if (settled) this.#losses = 0;
    const wait = afterMs + backoff(this.#losses, () => this.#world.random());
    this.#losses += 1;
    if (!this.#world.online()) return this.#leave({ kind: 'offline' });
    this.#leave({ kind: 'waiting', retryAtMs: this.#world.now() + wait });
    this.#retryTimer = this.#world.setTimeout(() => this.#connect(), wait);
  }

  #leave(state: ConnectionState): void {
    if (this.#state.kind === 'stopped' && state.kind !== 'stopped') return;
    this.#drop();
    this.#setState(state);
    if (state.kind === 'stopped') this.#failCalls(noConnection('the connection was ended'), true);
  }

  /** Lets go of the socket and of every timer. */
  #drop(): void {
    this.#attempt += 1;
    this.#goodbye = undefined;
    this.#welcomedAt = 0;
    for (const timer of [this.#retryTimer, this.#silenceTimer, this.#renewTimer]) this.#world.clearTimeout(timer);
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }
    // What was sent may or may not have been done; its caller decides. What was not sent waits on.
    this.#failCalls(noConnection('the connection was lost'), false);
  }

  #nudge(): void {
    const { kind } = this.#state;
    if (kind === 'offline' || kind === 'waiting') this.#connect();
  }

  #onVisible(): void {
    // Timers sleep in hidden tabs, and so does the watchdog.
    const silent = this.#world.now() - this.#heardAt;
    if (this.#state.kind === 'online' && silent > this.#heartbeatMs * 2) this.#lost('silence');
    this.#nudge();
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#options.onState(state);
  }

  // Frames

  #hear(bytes: Uint8Array): void {
    this.#heardAt = this.#world.now();
    this.#watchSilence();
    const { frame } = fromBinary(ConnectResponseSchema, bytes);
    switch (frame.case) {
      case 'welcome':
        return this.#onWelcome(frame.value);
      case 'reply':
        return this.#onReply(frame.value);
      case 'chatEvent':
        return this.#options.onNews({ kind: 'chat_event', event: frame.value });
      case 'ownEvent':
        return this.#options.onNews({ kind: 'own_event', event: frame.value });
      case 'heartbeat':
        this.#send({ case: 'alive', value: {} });
        return this.#options.onNews({ kind: 'heartbeat', heartbeat: frame.value });
      case 'behind':
        return void this.catchUp();
      case 'caughtUp':
        return this.#onCaughtUp(frame.value);
      case 'warmed':
        return this.#options.onNews({ kind: 'warmed', warmed: frame.value });
      case 'typing':
        return this.#options.onNews({ kind: 'typing', typing: frame.value });
      case 'receipts':
        return this.#options.onNews({ kind: 'receipts', receipts: frame.value });
      case 'notice':
        return this.#options.onNews({ kind: 'notice', notice: frame.value });
      case 'presence':
        return this.#options.onNews({ kind: 'presence', presence: frame.value });
      case 'watched':
        return this.#options.onNews({ kind: 'watched', watched: frame.value });
      case 'renewed':
        return this.#renewBefore(Number(frame.value.accessExpiresAtMs));
      case 'goodbye':
        this.#goodbye = frame.value;
        return;
      case undefined:
        // A frame of a newer server: what it says is not needed to stay complete.
        return;
    }
  }

  #onWelcome(welcome: Welcome): void {
    this.#heartbeatMs = welcome.heartbeatMs || this.#heartbeatMs;
    this.#welcomedAt = this.#world.now();
    this.#refusals = 0;
    this.#watchSilence();
    this.#renewBefore(Number(welcome.accessExpiresAtMs));
    this.#options.onNews({ kind: 'missed', missed: welcome.missed, first: true });
    this.#setState({ kind: 'online' });
    if (this.#warm.length > 0) this.#send({ case: 'warm', value: { chatIds: this.#warm } });
    if (this.#watched.length > 0) this.#send({ case: 'watch', value: { chatIds: this.#watched } });
    if (this.#idle) this.#send({ case: 'rest', value: { idle: true } });
    for (const waiting of this.#calls.values()) if (!waiting.sent) this.#sendCall(waiting);
  }

  #onCaughtUp(caughtUp: CaughtUp): void {
    this.#options.onNews({ kind: 'missed', missed: caughtUp.missed, first: false });
  }

  #onReply(reply: Reply): void {
    const waiting = this.#calls.get(reply.callId);
    if (!waiting) return;
    this.#calls.delete(reply.callId);
    this.#world.clearTimeout(waiting.timer);
    const { result } = reply;
    if (result.case === 'proto') waiting.resolve(result.value);
    else if (result.case === 'error') waiting.reject(fromCallError(result.value));
    else waiting.reject(new CallFailed('internal', 'the reply has no result that was asked for'));
  }

  #watchSilence(): void {
    this.#world.clearTimeout(this.#silenceTimer);
    const wait = this.#welcomedAt > 0 ? this.#heartbeatMs * 2 : WELCOME_TIMEOUT_MS;
    this.#silenceTimer = this.#world.setTimeout(() => this.#lost('silence'), wait);
  }

  #renewBefore(expiresAtMs: number): void {
    this.#world.clearTimeout(this.#renewTimer);
    const wait = Math.max(RENEW_EVERY_MIN_MS, expiresAtMs - this.#world.now() - RENEW_BEFORE_MS);
    const attempt = this.#attempt;
    // Browsers take no timer longer than 2^31 ms.
    this.#renewTimer = this.#world.setTimeout(() => void this.#renew(attempt), Math.min(wait, 2 ** 31 - 1));
  }

  async #renew(attempt: number): Promise<void> {
    try {
      const token = await this.#options.token(this.#token);
      if (attempt !== this.#attempt) return;
      this.#token = token;
      this.#send({ case: 'renew', value: { accessToken: token } });
    } catch (thrown) {
      if (attempt !== this.#attempt) return;
      if (thrown instanceof CallFailed && thrown.signedOut) return this.#leave({ kind: 'stopped', why: 'signed_out' });
      // The session still lives; its end, or this timer, brings the next attempt.
      this.#renewTimer = this.#world.setTimeout(() => void this.#renew(attempt), RENEW_EVERY_MIN_MS);
    }
  }

  #send(frame: Frame): void {
    this.#write(encode(frame));
  }

  #sendCall(waiting: Waiting): void {
    waiting.sent = true;
    this.#write(waiting.frame);
  }

  #write(bytes: Uint8Array<ArrayBuffer>): void {
    // A socket that is closing drops what it is given; its close event follows and fails the calls.
    if (this.#socket?.readyState === 1) this.#socket.send(bytes);
  }

  #failCalls(failure: CallFailed, all: boolean): void {
    for (const [id, waiting] of this.#calls) {
      if (!waiting.sent && !all) continue;
      this.#calls.delete(id);
      this.#world.clearTimeout(waiting.timer);
      waiting.reject(failure);
    }
  }
}

function encode(frame: Frame): Uint8Array<ArrayBuffer> {
  return toBinary(ConnectRequestSchema, create(ConnectRequestSchema, { frame }));
}

/** The world of a browser. */
export function browserWorld(): World {
  // Without any network a browser calls itself offline, although a server on the same machine answers.
  const loopback = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);
  let wentOffline = false;
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer as number | undefined),
    online: () => !wentOffline && (navigator.onLine || loopback),
    watch(on) {
      const visible = () => document.visibilityState === 'visible' && on.visible();
      const online = () => {
        wentOffline = false;
        on.online();
      };
      const offline = () => {
        wentOffline = true;
        on.offline();
      };
      addEventListener('online', online);
      addEventListener('offline', offline);
      document.addEventListener('visibilitychange', visible);
      return () => {
        removeEventListener('online', online);
        removeEventListener('offline', offline);
        document.removeEventListener('visibilitychange', visible);
      };
    },
    open() {
      const url = new URL('/live', location.href);
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      return new WebSocket(url, 'tertulia.v1.proto') as Socket;
    },
  };
}
