import { beforeEach, describe, expect, it } from 'vitest';
import { CallFailed, Reason } from '../api/failure';
import type { LoginId, UserId } from '../api/ids';
import type { Credentials, Identity } from '../api/identity';
import { deviceName, Session } from './session.svelte';

class MemoryStorage implements Storage {
  #items = new Map<string, string>();
  get length() {
    return this.#items.size;
  }
  clear = () => this.#items.clear();
  getItem = (key: string) => this.#items.get(key) ?? null;
  key = (i: number) => [...this.#items.keys()][i] ?? null;
  removeItem = (key: string) => void this.#items.delete(key);
  setItem = (key: string, value: string) => void this.#items.set(key, value);
}

let storage: Storage;
let refreshes: string[];
let chain: Promise<unknown>;
let failure: CallFailed | undefined;

function credentials(n: number, lifeMs = 900_000): Credentials {
  return {
    userId: '1' as UserId,
    loginId: '2' as LoginId,
    deviceId: 'here',
    accessToken: `access-${n}`,
    accessExpiresAtMs: Date.now() + lifeMs,
    refreshToken: `refresh-${n}`,
  };
}

const identity: Identity = {
  createAccount: async () => credentials(1),
  login: async () => credentials(1),
  refresh: async (token) => {
    refreshes.push(token);
    if (failure) throw failure;
    return credentials(refreshes.length + 1);
  },
  logout: async () => undefined,
};

/** A tab: its own session over the storage that all tabs share. */
function tab(): Session {
  const alone = <T,>(work: () => Promise<T>): Promise<T> => {
    const turn = chain.then(work);
    chain = turn.catch(() => undefined);
    return turn;
  };
  return new Session({ identity, storage, alone, deviceName: 'test' });
}

beforeEach(() => {
  storage = new MemoryStorage();
  refreshes = [];
  chain = Promise.resolve();
  failure = undefined;
});

describe('session', () => {
  it('is kept over a reload', async () => {
    await tab().login('ana', 'secret');
    expect(tab().account).toEqual({ userId: '1', deviceId: 'here' });
  });

  it('gives the token that it has while it is good', async () => {
    const session = tab();
    await session.login('ana', 'secret');
    expect(await session.accessToken()).toBe('access-1');
    expect(refreshes).toEqual([]);
  });

  it('spends a refresh token once, however many tabs ask at the same time', async () => {
    const tabs = [tab(), tab(), tab()];
    await tabs[0]?.login('ana', 'secret');
    const tokens = await Promise.all(tabs.flatMap((t) => [t.accessToken('access-1'), t.accessToken('access-1')]));
    expect(new Set(tokens)).toEqual(new Set(['access-2']));
    expect(refreshes).toEqual(['refresh-1']);
  });

  it('signs out when the refresh token is no longer good', async () => {
    const session = tab();
    await session.login('ana', 'secret');
    failure = new CallFailed('unauthenticated', '', Reason.REFRESH_TOKEN_REUSED);
    await expect(session.accessToken('access-1')).rejects.toMatchObject({ signedOut: true });
    expect(session.account).toBeUndefined();
    expect(session.ended).toBe(true);
  });

  it('stays signed in when the server can not be reached', async () => {
    const session = tab();
    await session.login('ana', 'secret');
    failure = new CallFailed('no_connection', '');
    await expect(session.accessToken('access-1')).rejects.toMatchObject({ retryable: true });
    expect(session.account).toBeDefined();
  });

  it('follows another tab out', async () => {
    const [here, there] = [tab(), tab()];
    await here.login('ana', 'secret');
    there.onStorage('tertulia.credentials');
    expect(there.account).toBeDefined();
    await here.signOut();
    there.onStorage('tertulia.credentials');
    expect(there.account).toBeUndefined();
    expect(there.ended).toBe(false);
  });
});

describe('deviceName', () => {
  it('says browser and system', () => {
    expect(deviceName('Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0')).toBe('Firefox on Linux');
    expect(deviceName('')).toBe('Browser');
  });
});
