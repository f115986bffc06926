// Every failure of a call, whatever carried it: the catalogue's reason, or that there was no connection.

import { getOption } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { FailureSchema, Reason, ReasonSchema, type Failure } from '../../gen/tertulia/errors/v1/errors_pb';
import type { CallError } from '../../gen/tertulia/live/v1/live_pb';
import { entry } from '../../gen/tertulia/options/v1/options_pb';

export { Reason };

/** A field of the request that is wrong. */
export interface FieldProblem {
  path: string;
  rule: string;
  problem: string;
}

/** Why a call failed. */
export class CallFailed extends Error {
  override readonly name = 'CallFailed';

  constructor(
    /** The code as Connect spells it; `no_connection` when the server was not reached. */
    readonly code: string,
    /** For logs. People are shown the words of the catalogue instead. */
    message: string,
    readonly reason: Reason = Reason.UNSPECIFIED,
    readonly fields: FieldProblem[] = [],
    readonly retryAfterMs = 0,
    readonly requestId = '',
  ) {
    super(message);
  }

  /** The same call may succeed later without a change. */
  get retryable(): boolean {
    const row = ReasonSchema.value[this.reason];
    if (row && this.reason !== Reason.UNSPECIFIED) return getOption(row, entry).retryable;
    return ['no_connection', 'unavailable', 'deadline_exceeded', 'aborted', 'canceled'].includes(this.code);
  }

  /** The access token is no longer good; the call may succeed with a new one. */
  get needsFreshToken(): boolean {
    return (
      this.reason === Reason.TOKEN_EXPIRED || this.reason === Reason.BAD_TOKEN || this.reason === Reason.NOT_SIGNED_IN
    );
  }

  /** Nothing but signing in again helps. */
  get signedOut(): boolean {
    return (
      this.reason === Reason.LOGIN_ENDED ||
      this.reason === Reason.BAD_REFRESH_TOKEN ||
      this.reason === Reason.REFRESH_TOKEN_REUSED
    );
  }
}

export function noConnection(message: string): CallFailed {
  return new CallFailed('no_connection', message);
}

/** From the error of a Reply. */
export function fromCallError(error: CallError): CallFailed {
  return build(error.code, error.message, error.failure);
}

/** From what the HTTP transport threw. */
export function fromConnect(thrown: unknown): CallFailed {
  if (thrown instanceof CallFailed) return thrown;
  const error = ConnectError.from(thrown);
  const [failure] = error.findDetails(FailureSchema);
  // fetch itself throws a TypeError when nobody answers, which Connect calls `unknown`.
  if (!failure && error.code === Code.Unknown) return noConnection(error.rawMessage);
  return build(codeName(error.code), error.rawMessage, failure);
}

function build(code: string, message: string, failure: Failure | undefined): CallFailed {
  const fields = failure?.fields.map(({ path, rule, problem }) => ({ path, rule, problem }));
  return new CallFailed(code, message, failure?.reason, fields, failure?.retryAfterMs, failure?.requestId);
}

function codeName(code: Code): string {
  return (Code[code] ?? 'unknown').replace(/[A-Z]/g, (c, i: number) => (i > 0 ? '_' : '') + c.toLowerCase());
}
