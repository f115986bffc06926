// @vitest-environment node
import { readFileSync } from 'node:fs';
import { fromJson } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { GetDigestsResponseSchema, ListEventsResponseSchema } from '../../gen/tertulia/chats/v1/chats_pb';
import { digest } from './digest';
import { toEvent } from './model';

/** The answer that an example of the page shows. */
function example(name: string) {
  const page = readFileSync(new URL('../../../../docs/protocol/digests.md', import.meta.url), 'utf8');
  const block = page.split(`<!-- example: ${name} -->\n\`\`\`json\n`)[1]?.split('```')[0];
  if (!block) throw new Error(`the page has no example ${name}`);
  return JSON.parse(block).reply.json;
}

describe('digests', () => {
  it('are those that the page works out', async () => {
    const { events } = fromJson(ListEventsResponseSchema, example('events of a digest'));
    const { digests } = fromJson(GetDigestsResponseSchema, example('digests'));
    expect(digests.length).toBeGreaterThan(1);
    for (const { fromSeq, toSeq, digest: told } of digests) {
      const part = events.filter(({ seq }) => fromSeq <= seq && seq <= toSeq);
      expect(await digest(part.map(toEvent))).toEqual(new Uint8Array(told));
    }
  });
});
