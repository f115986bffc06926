import { describe, expect, it } from 'vitest';
import type { ChatId, MessageId, UserId } from '../api/ids';
import { Loose } from './loose';
import { DeletionReason, type Act, type Event, type Message, type Unsent } from './model';
import { toItems, type View } from './timeline';

const me = '1' as UserId;
const ana = '2' as UserId;
const chatId = '9' as ChatId;
const view: View = { me: { userId: me, deviceId: 'here' }, nowMs: 10_000, thread: 0, overlays: [] };

function message(seq: number, more: Partial<Message> = {}): Message {
  return {
    messageId: `${1000 + seq}` as MessageId, text: `text ${seq}`, clientMessageId: `c-${seq}`, deviceId: 'there', changedSeq: seq, editedAtMs: 0,
    hidden: false, replyTo: 0, threadSeq: 0, reactions: [], pinned: false, replyCount: 0, lastReplySeq: 0, expiresAtMs: 0, ...more,
  };
}

const said = (seq: number, more: Partial<Message> = {}, actorId = ana): Event => ({ chatId, seq, atMs: seq * 1000, actorId, message: message(seq, more) });
const did = (seq: number, act: Act, actorId = ana): Event => ({ chatId, seq, atMs: seq * 1000, actorId, act });
const unsent = (clientMessageId: string, more: Partial<Unsent> = {}): Unsent => ({
  order: 1, clientMessageId, chatId, text: 'hello', replyTo: 0, threadSeq: 0, atMs: 1, state: 'waiting', ...more,
});
const keys = (events: Event[], waiting: Unsent[] = [], more: Partial<View> = {}) => toItems(events, waiting, { ...view, ...more }).map((i) => i.key);

describe('the lines of a conversation', () => {
  it('replace an unsent message by its event and keep its key', () => {
    expect(toItems([], [unsent('mine-0001')], view)).toMatchObject([{ key: 'mine-0001', state: 'sending', own: true }]);
    expect(toItems([], [unsent('mine-0001', { state: 'sent', seq: 4 })], view)).toMatchObject([{ key: 'mine-0001', state: 'stored' }]);
    const event = said(4, { clientMessageId: 'mine-0001', deviceId: 'here' }, me);
    expect(toItems([event], [unsent('mine-0001', { state: 'sent', seq: 4 })], view)).toMatchObject([{ key: 'mine-0001', seq: 4, state: 'stored' }]);
  });

  it('do not take the id of another device for an own one', () => {
    expect(keys([said(4, { clientMessageId: 'mine-0001', deviceId: 'phone' }, me)], [unsent('mine-0001')])).toEqual(['s4', 'mine-0001']);
  });

  it('show a failed message with its reason', () => {
    expect(toItems([], [unsent('mine-0001', { state: 'failed', reason: 12 })], view)).toMatchObject([{ state: 'failed', reason: 12 }]);
  });

  it('tell what happened, but not the changes of messages', () => {
    const acts: Act[] = [
      { kind: 'joined', invitedBy: ana, role: 2, memberCount: 3 },
      { kind: 'edited', target: 1, text: 'x' },
      { kind: 'reacted', target: 1, emoji: '👍' },
      { kind: 'pinned', target: 1 },
      { kind: 'unpinned', target: 1 },
      { kind: 'deleted', targets: [1], reason: DeletionReason.SENDER },
    ];
    expect(keys(acts.map((act, i) => did(i + 1, act)))).toEqual(['s1', 's4']);
  });

  it('show nothing of what this client does not know', () => {
    expect(keys([{ chatId, seq: 1, atMs: 1, actorId: ana }, said(2)])).toEqual(['s2']);
  });

  it('leave a tombstone of what was deleted for everybody, and nothing of what was hidden or has expired', () => {
    const items = toItems(
      [
        said(1, { deletion: { reason: DeletionReason.MODERATOR, by: ana }, text: '' }),
        said(2, { deletion: { reason: DeletionReason.EXPIRED, by: '0' as UserId }, text: '' }),
        said(3, { hidden: true, text: '' }),
        said(4, { expiresAtMs: 9_999 }),
        said(5, { expiresAtMs: 10_001 }),
      ],
      [],
      view,
    );
    expect(items.map((i) => i.seq)).toEqual([1, 5]);
  });

  it('tell of a reply in a thread in passing, and show it in the thread', () => {
    const events = [said(1), said(2, { threadSeq: 1 })];
    expect(toItems(events, [], view).map((i) => i.kind)).toEqual(['message', 'reply']);
    expect(toItems(events, [unsent('in-thread', { threadSeq: 1 }), unsent('outside')], { ...view, thread: 1 }).map((i) => i.kind)).toEqual(['message', 'message', 'message']);
    expect(keys(events, [unsent('in-thread', { threadSeq: 1 }), unsent('outside')])).toEqual(['s1', 's2', 'outside']);
  });

  it('show a change before the server agreed to it, and what is deleted not at all', () => {
    const overlays = [
      { target: 1, apply: (m: Message) => ({ ...m, text: 'other' }) },
      { target: 2, apply: () => undefined },
    ];
    expect(toItems([said(1), said(2)], [], { ...view, overlays })).toMatchObject([{ seq: 1, text: 'other' }]);
  });
});

describe('loose messages', () => {
  it('are kept true by what happens after their answer, and not changed twice', () => {
    const loose = new Loose(me);
    loose.put([said(1, { reactions: [{ emoji: '👍', count: 1, mine: false }], changedSeq: 5 })], 7);
    expect(loose.since).toBe(7);
    loose.follow([did(5, { kind: 'reacted', target: 1, emoji: '👍' }), did(8, { kind: 'reacted', target: 1, emoji: '👍' }, me)], 8);
    expect(loose.get(1)?.message?.reactions).toEqual([{ emoji: '👍', count: 2, mine: true }]);
    expect(loose.since).toBe(8);
  });

  it('of a thread grow by its replies', () => {
    const loose = new Loose(me);
    loose.put([said(1)], 1);
    loose.follow([said(2, { threadSeq: 1 }), said(3), did(4, { kind: 'edited', target: 2, text: 'better' })], 4, 1);
    expect(loose.all().map((e) => [e.seq, e.message?.text, e.message?.replyCount])).toEqual([
      [1, 'text 1', 1],
      [2, 'text 2', 0],
    ]);
  });
});
