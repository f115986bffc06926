import { describe, expect, it } from 'vitest';
import { Announcements } from './announcements.svelte';

function heard(...notices: Array<[kind: string, text: string]>): Announcements {
  const announcements = new Announcements();
  for (const [kind, text] of notices) announcements.heard({ kind, text });
  return announcements;
}

const texts = (announcements: Announcements) => announcements.list.map((one) => one.text);

describe('announcements', () => {
  it('are shown until they are dismissed', () => {
    const announcements = heard(['announcement', 'We restart at noon.'], ['announcement', ' We are back. ']);
    expect(texts(announcements)).toEqual(['We restart at noon.', 'We are back.']);
    announcements.dismiss(announcements.list[0]?.id ?? 0);
    expect(texts(announcements)).toEqual(['We are back.']);
  });

  it('are no notices of another kind, and none without a text', () => {
    expect(texts(heard(['weather.v2', 'rain'], ['announcement', '  ']))).toEqual([]);
  });

  it('are shown once, and only the newest few', () => {
    const announcements = heard(['announcement', 'a'], ['announcement', 'a'], ['announcement', 'b']);
    expect(texts(announcements)).toEqual(['a', 'b']);
    for (const text of ['c', 'd']) announcements.heard({ kind: 'announcement', text });
    expect(texts(announcements)).toEqual(['b', 'c', 'd']);
  });
});
