// Signing in, over plain HTTP: there is no live connection before it.

import { createClient, type Client } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { IdentityService, type Credentials as Wire } from '../../gen/tertulia/identity/v1/identity_pb';
import { CallFailed, fromConnect } from './failure';
import { loginId, userId, type LoginId, type UserId } from './ids';

/** What a signed-in client holds. */
export interface Credentials {
  userId: UserId;
  loginId: LoginId;
  deviceId: string;
  accessToken: string;
  accessExpiresAtMs: number;
  refreshToken: string;
}

/** The device to sign in on. */
export interface Device {
  deviceId: string;
  name: string;
}

/** Each rejects with CallFailed. */
export interface Identity {
  createAccount(name: string, displayName: string, password: string, device: Device): Promise<Credentials>;
  login(name: string, password: string, device: Device): Promise<Credentials>;
  refresh(refreshToken: string): Promise<Credentials>;
  logout(accessToken: string): Promise<void>;
}

export function identityOver(baseUrl: string): Identity {
  const transport = createConnectTransport({ baseUrl, useBinaryFormat: true, defaultTimeoutMs: 20_000 });
  const client: Client<typeof IdentityService> = createClient(IdentityService, transport);
  return {
    createAccount: (name, displayName, password, device) =>
      kept(client.createAccount({ name, displayName, password, device })),
    login: (name, password, device) => kept(client.login({ name, password, device })),
    refresh: (refreshToken) => kept(client.refresh({ refreshToken })),
    logout: async (accessToken) => {
      try {
        await client.logout({}, { headers: { authorization: `Bearer ${accessToken}` } });
      } catch (thrown) {
        throw fromConnect(thrown);
      }
    },
  };
}

async function kept(answer: Promise<{ credentials?: Wire }>): Promise<Credentials> {
  let credentials: Wire | undefined;
  try {
    ({ credentials } = await answer);
  } catch (thrown) {
    throw fromConnect(thrown);
  }
  if (!credentials) throw new CallFailed('internal', 'the answer holds no credentials');
  return {
    userId: userId(credentials.userId),
    loginId: loginId(credentials.loginId),
    deviceId: credentials.deviceId,
    accessToken: credentials.accessToken,
    accessExpiresAtMs: Number(credentials.accessExpiresAtMs),
    refreshToken: credentials.refreshToken,
  };
}
