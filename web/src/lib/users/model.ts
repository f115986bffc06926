// The noun of users.

import type { User as Wire } from '../../gen/tertulia/users/v1/users_pb';
import { userId, type UserId } from '../api/ids';

/** A profile. */
export interface User {
  id: UserId;
  /** The unique name. */
  name: string;
  /** What others see. */
  displayName: string;
  about: string;
}

export function toUser(wire: Wire): User {
  const { name, displayName, about } = wire;
  return { id: userId(wire.userId), name, displayName: displayName || name, about };
}
