// Digests of what is held, to be compared with the server's: docs/protocol/digests.md says what goes into them.

import type { Act, Event } from './model';

const DIGEST_BYTES = 16;
const utf8 = new TextEncoder();

/** The numbers of the fields of Event in the contract. */
const FIELDS: Record<Act['kind'], number> = {
  edited: 6, deleted: 7, reacted: 8, unreacted: 9, pinned: 10, unpinned: 11, created: 12, changed: 13, added: 14,
  joined: 15, left: 16, removed: 17, banned: 18, unbanned: 19, role: 20,
};

/** Digests need what browsers give only to pages that came over HTTPS or from this machine. */
export const canDigest = (): boolean => globalThis.crypto?.subtle !== undefined;

/** Whether an event is of a kind that this client knows; of others it can not judge. */
export const isKnown = (event: Event): boolean => event.message !== undefined || event.act !== undefined;

/** Events of a log, in their order, in short. */
export async function digest(events: readonly Event[]): Promise<Uint8Array> {
  const leaves = await Promise.all(events.map(leaf));
  return (await sha256(...leaves)).slice(0, DIGEST_BYTES);
}

function leaf({ seq, actorId, message, act }: Event): Promise<Uint8Array> {
  if (!message) return sha256(utf8.encode('e'), number(seq), number(act ? FIELDS[act.kind] : 0), number(actorId));
  const state = message.deletion ? 1 : message.hidden ? 2 : 0;
  const text = state === 0 ? message.text : '';
  return sha256(utf8.encode('m'), number(seq), number(message.messageId), number(message.changedSeq), Uint8Array.of(state), utf8.encode(text));
}

/** Eight bytes, big-endian. */
function number(n: number | string): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(n));
  return bytes;
}

async function sha256(...parts: Uint8Array[]): Promise<Uint8Array> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest('SHA-256', all));
}
