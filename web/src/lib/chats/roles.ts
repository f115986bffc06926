// Who may do what in a chat: the table of docs/guides/roles.md, so that nothing is offered that the server
// would refuse. The server decides.

import type { Chat } from './log';
import { ChatKind, Role } from './model';

export type Right =
  | 'read'
  | 'react'
  | 'send'
  | 'pin'
  | 'changeChat'
  | 'mentionAll'
  | 'deleteOthers'
  | 'addMembers'
  | 'invite'
  | 'removeMembers'
  | 'changeRoles';

/** The lowest role that has the right in a group and in a channel, and whether the two of a direct chat have it. */
const TABLE: Record<Right, [group: Role, channel: Role, direct: boolean]> = {
  read: [Role.READER, Role.READER, true],
  react: [Role.MEMBER, Role.READER, true],
  send: [Role.MEMBER, Role.MEMBER, true],
  pin: [Role.ADMIN, Role.ADMIN, true],
  changeChat: [Role.ADMIN, Role.ADMIN, true],
  mentionAll: [Role.ADMIN, Role.ADMIN, false],
  deleteOthers: [Role.ADMIN, Role.ADMIN, false],
  addMembers: [Role.ADMIN, Role.ADMIN, false],
  invite: [Role.ADMIN, Role.ADMIN, false],
  removeMembers: [Role.ADMIN, Role.ADMIN, false],
  changeRoles: [Role.ADMIN, Role.ADMIN, false],
};

export function may(chat: Pick<Chat, 'kind' | 'role'>, right: Right): boolean {
  const [group, channel, direct] = TABLE[right];
  if (chat.kind === ChatKind.DIRECT) return direct;
  return chat.role >= (chat.kind === ChatKind.CHANNEL ? channel : group);
}
