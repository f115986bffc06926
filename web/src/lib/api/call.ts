// Typed calls over whatever carries bytes: the live connection here.

import { create, fromBinary, toBinary, type DescMethodUnary, type MessageInitShape, type MessageShape } from '@bufbuild/protobuf';

/** Carries one call. Rejects with CallFailed. */
export interface Carrier {
  call(method: string, request: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
}

/** How long a call may take, unless it says otherwise. */
export const CALL_TIMEOUT_MS = 15_000;

export async function call<I extends DescMethodUnary>(
  carrier: Carrier,
  method: I,
  request: MessageInitShape<I['input']>,
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<MessageShape<I['output']>> {
  const body = toBinary(method.input, create(method.input, request));
  const answer = await carrier.call(`${method.parent.typeName}/${method.name}`, body, timeoutMs);
  return fromBinary(method.output, answer) as MessageShape<I['output']>;
}
