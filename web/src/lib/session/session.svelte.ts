// Who is signed in on this browser, and with which tokens. All tabs share them; only one refreshes.

import type { Credentials, Device, Identity } from '../api/identity';
import { CallFailed, Reason } from '../api/failure';
import { randomId, type UserId } from '../api/ids';

/** A token that ends sooner than this is replaced before it is used. */
const FRESH_MS = 30_000;
const CREDENTIALS = 'tertulia.credentials';
const DEVICE = 'tertulia.device';

/** The signed-in one. */
export interface Account {
  userId: UserId;
  deviceId: string;
}

export interface SessionOptions {
  identity: Identity;
  storage: Storage;
  /** Runs work in one tab at a time. */
  alone<T>(work: () => Promise<T>): Promise<T>;
  /** What the person sees in the list of logins. */
  deviceName: string;
}

export class Session {
  #options: SessionOptions;
  #account = $state.raw<Account | undefined>();
  #ended = $state(false);

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#account = accountOf(this.#load());
  }

  get account(): Account | undefined {
    return this.#account;
  }

  /** The login was ended from elsewhere, so signing in again is asked for. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Another tab signed in or out, or refreshed. */
  onStorage(key: string | null): void {
    if (key !== null && key !== CREDENTIALS) return;
    const account = accountOf(this.#load());
    const same = account?.userId === this.#account?.userId && account?.deviceId === this.#account?.deviceId;
    if (!same) this.#account = account;
  }

  async createAccount(name: string, displayName: string, password: string): Promise<void> {
    this.#keep(await this.#options.identity.createAccount(name, displayName, password, this.#device()));
  }

  async login(name: string, password: string): Promise<void> {
    this.#keep(await this.#options.identity.login(name, password, this.#device()));
  }

  /** An access token that is good for a while, and not `stale`. */
  async accessToken(stale?: string): Promise<string> {
    const good = (held: Credentials) =>
      held.accessToken !== stale && held.accessExpiresAtMs - Date.now() > FRESH_MS ? held.accessToken : undefined;
    return good(this.#held()) ?? (await this.#options.alone(async () => good(this.#held()) ?? (await this.#refresh())));
  }

  /** Ends the login; the browser forgets it even when the server can not be reached. */
  async signOut(): Promise<void> {
    const held = this.#load();
    if (held) await this.#options.identity.logout(held.accessToken).catch(() => undefined);
    this.#forget(false);
  }

  /** The server says that the login is over. */
  end(): void {
    this.#forget(true);
  }

  async #refresh(): Promise<string> {
    try {
      const credentials = await this.#options.identity.refresh(this.#held().refreshToken);
      this.#keep(credentials);
      return credentials.accessToken;
    } catch (thrown) {
      if (thrown instanceof CallFailed && thrown.signedOut) this.#forget(true);
      throw thrown;
    }
  }

  #held(): Credentials {
    const held = this.#load();
    if (!held) throw new CallFailed('unauthenticated', 'nobody is signed in', Reason.LOGIN_ENDED);
    return held;
  }

  #load(): Credentials | undefined {
    const text = this.#options.storage.getItem(CREDENTIALS);
    return text ? (JSON.parse(text) as Credentials) : undefined;
  }

  #keep(credentials: Credentials): void {
    this.#options.storage.setItem(CREDENTIALS, JSON.stringify(credentials));
    this.#ended = false;
    this.onStorage(CREDENTIALS);
  }

  #forget(ended: boolean): void {
    this.#options.storage.removeItem(CREDENTIALS);
    this.#account = undefined;
    this.#ended = ended;
  }

  #device(): Device {
    const { storage, deviceName } = this.#options;
    let deviceId = storage.getItem(DEVICE);
    if (!deviceId) {
      deviceId = randomId();
      storage.setItem(DEVICE, deviceId);
    }
    return { deviceId, name: deviceName };
  }
}

function accountOf(credentials: Credentials | undefined): Account | undefined {
  return credentials && { userId: credentials.userId, deviceId: credentials.deviceId };
}

/** Such as "Firefox on Linux". */
export function deviceName(agent: string): string {
  const find = (names: Array<[RegExp, string]>) => names.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = find([
    [/Edg\//, 'Edge'],
    [/OPR\//, 'Opera'],
    [/Firefox\//, 'Firefox'],
    [/Chrom(e|ium)\//, 'Chrome'],
    [/Safari\//, 'Safari'],
  ]);
  const system = find([
    [/Android/, 'Android'],
    [/iPhone|iPad/, 'iOS'],
    [/Windows/, 'Windows'],
    [/Mac OS X/, 'macOS'],
    [/CrOS/, 'ChromeOS'],
    [/Linux/, 'Linux'],
  ]);
  return [browser ?? 'Browser', system].filter(Boolean).join(' on ');
}
