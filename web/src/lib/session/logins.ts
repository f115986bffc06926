// The signed-in devices of the account.

import { IdentityService } from '../../gen/tertulia/identity/v1/identity_pb';
import { call, type Carrier } from '../api/call';
import { loginId, type LoginId } from '../api/ids';

export interface Login {
  id: LoginId;
  deviceName: string;
  createdAtMs: number;
  refreshedAtMs: number;
  /** This one. */
  current: boolean;
}

/** Newest first. */
export async function listLogins(carrier: Carrier): Promise<Login[]> {
  const { logins } = await call(carrier, IdentityService.method.listLogins, {});
  return logins.map((login) => ({
    id: loginId(login.loginId),
    deviceName: login.deviceName,
    createdAtMs: Number(login.createdAtMs),
    refreshedAtMs: Number(login.refreshedAtMs),
    current: login.current,
  }));
}

export async function endLogin(carrier: Carrier, id: LoginId): Promise<void> {
  await call(carrier, IdentityService.method.endLogin, { loginId: BigInt(id) });
}
