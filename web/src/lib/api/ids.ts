// Ids are 64 bits: strings here, because IndexedDB takes no bigint as a key and a number is too small.

declare const brand: unique symbol;
type Id<Name extends string> = string & { readonly [brand]: Name };

export type UserId = Id<'user'>;
export type ChatId = Id<'chat'>;
export type MessageId = Id<'message'>;
export type LoginId = Id<'login'>;

export const userId = (id: bigint): UserId => id.toString() as UserId;
export const chatId = (id: bigint): ChatId => id.toString() as ChatId;
export const messageId = (id: bigint): MessageId => id.toString() as MessageId;
export const loginId = (id: bigint): LoginId => id.toString() as LoginId;

/** The actor of what the server did by itself. */
export const NOBODY = '0' as UserId;

/** Makes a random id of 21 characters that the contract takes as a client message id or a device id. */
export function randomId(): string {
  // Not crypto.randomUUID: it is missing on pages that were not loaded over https.
  const bytes = crypto.getRandomValues(new Uint8Array(21));
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-';
  let id = '';
  for (const byte of bytes) id += alphabet.charAt(byte & 63);
  return id;
}
