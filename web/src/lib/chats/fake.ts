// A chats server in memory, for tests: logs of chats behind the calls of the contract.

import { create, fromBinary, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { ChatKind, ChatsService, EventSchema } from '../../gen/tertulia/chats/v1/chats_pb';
import { ChatEventSchema, HeartbeatSchema, MissedSchema } from '../../gen/tertulia/live/v1/live_pb';
import type { Carrier } from '../api/call';
import { CallFailed, Reason } from '../api/failure';
import type { News } from '../live/connection';

type WireEvent = MessageInitShape<typeof EventSchema>;

export class FakeServer implements Carrier {
  logs = new Map<bigint, WireEvent[]>();
  members = new Map<bigint, bigint[]>();
  calls: string[] = [];
  /** What the next calls of a method meet; each is used once. */
  failures: Array<{ method: string; failure: CallFailed; after?: boolean }> = [];

  open(chat: bigint, members: bigint[]): void {
    this.members.set(chat, members);
    this.logs.set(chat, []);
  }

  say(chat: bigint, actorId: bigint, text: string, clientMessageId = `c-${text}`, deviceId = 'there'): WireEvent {
    const log = this.log(chat);
    const known = log.find((e) => e.body?.case === 'message' && e.body.value.clientMessageId === clientMessageId);
    if (known) return known;
    const seq = BigInt(log.length + 1);
    const message = { messageId: chat * 1000n + seq, text, clientMessageId, deviceId };
    const event: WireEvent = { chatId: chat, seq, atMs: 1000n * seq, actorId, body: { case: 'message', value: message } };
    log.push(event);
    return event;
  }

  live(event: WireEvent): News {
    return { kind: 'chat_event', event: create(ChatEventSchema, { prev: (event.seq ?? 0n) - 1n, event }) };
  }

  heartbeat(cursor: number, heads: Array<[bigint, number]>, ownHead = 0): News {
    const value = heads.map(([chatId, seq]) => ({ chatId, seq: BigInt(seq) }));
    const cursorBytes = cursor === 0 ? new Uint8Array() : new Uint8Array([cursor]);
    return { kind: 'heartbeat', heartbeat: create(HeartbeatSchema, { heads: value, ownHead: BigInt(ownHead), cursor: cursorBytes }) };
  }

  missed(cursor: number, answer: MessageInitShape<typeof MissedSchema>['answer']): News {
    return { kind: 'missed', first: true, missed: create(MissedSchema, { cursor: new Uint8Array([cursor]), answer }) };
  }

  chat(id: bigint) {
    const log = this.log(id);
    return { chatId: id, kind: ChatKind.DIRECT, memberIds: this.members.get(id) ?? [], head: BigInt(log.length), createdAtMs: 1n, lastEvent: log.at(-1) };
  }

  async call(method: string, request: Uint8Array): Promise<Uint8Array> {
    const name = method.split('/')[1] ?? '';
    this.calls.push(name);
    const planned = this.failures.findIndex((f) => f.method === name);
    const plan = planned >= 0 ? this.failures.splice(planned, 1)[0] : undefined;
    if (plan && !plan.after) throw plan.failure;
    const answer = this.#answer(name, request);
    // Done, but the answer is lost on the way.
    if (plan) throw plan.failure;
    return answer;
  }

  #answer(name: string, bytes: Uint8Array): Uint8Array {
    const methods = ChatsService.method;
    switch (name) {
      case 'ListEvents': {
        const { chatId, from, limit } = fromBinary(methods.listEvents.input, bytes);
        const log = this.log(chatId);
        const events =
          from.case === 'afterSeq'
            ? log.filter((e) => (e.seq ?? 0n) > from.value).slice(0, limit)
            : log.filter((e) => !from.value || (e.seq ?? 0n) < from.value).slice(-limit);
        const output = methods.listEvents.output;
        return toBinary(output, create(output, { events, head: BigInt(log.length) }));
      }
      case 'GetChat': {
        const { chatId } = fromBinary(methods.getChat.input, bytes);
        const output = methods.getChat.output;
        return toBinary(output, create(output, { chat: this.chat(chatId) }));
      }
      case 'ListChats': {
        const output = methods.listChats.output;
        return toBinary(output, create(output, { chats: [...this.logs.keys()].map((id) => this.chat(id)) }));
      }
      case 'ListUserEvents': {
        const { afterSeq } = fromBinary(methods.listUserEvents.input, bytes);
        const all = [...this.logs.keys()].map((id, i) => ({
          seq: BigInt(i + 1),
          atMs: 1n,
          body: { case: 'chatJoined' as const, value: { chat: { ...this.chat(id), head: 0n, lastEvent: undefined } } },
        }));
        const output = methods.listUserEvents.output;
        return toBinary(output, create(output, { events: all.filter((e) => e.seq > afterSeq), head: BigInt(all.length) }));
      }
      case 'SendMessage': {
        const { chatId, clientMessageId, text } = fromBinary(methods.sendMessage.input, bytes);
        const event = this.say(chatId, 1n, text, clientMessageId, 'here');
        const output = methods.sendMessage.output;
        return toBinary(output, create(output, { seq: event.seq, messageId: 1n, atMs: event.atMs }));
      }
    }
    throw new CallFailed('unimplemented', name, Reason.UNKNOWN_METHOD);
  }

  log(chat: bigint): WireEvent[] {
    const log = this.logs.get(chat);
    if (!log) throw new CallFailed('not_found', 'no chat', Reason.CHAT_NOT_FOUND);
    return log;
  }
}
