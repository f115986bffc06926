import { describe, expect, it } from 'vitest';
import { linkify } from './links';

const links = (text: string) => linkify(text).flatMap((piece) => piece.href ?? []);

describe('linkify', () => {
  it('links web and mail addresses', () => {
    expect(links('see https://example.org/a?b=1#c and http://x.io')).toEqual(['https://example.org/a?b=1#c', 'http://x.io/']);
    expect(links('write to ana@example.org or mailto:bea@example.org')).toEqual(['mailto:ana@example.org', 'mailto:bea@example.org']);
  });

  it('leaves the end of a sentence out of the address', () => {
    expect(links('Is it https://example.org/a? (https://example.org/b).')).toEqual(['https://example.org/a', 'https://example.org/b']);
    expect(links('https://en.wikipedia.org/wiki/Tertulia_(film)')).toEqual(['https://en.wikipedia.org/wiki/Tertulia_(film)']);
  });

  it('links nothing else', () => {
    for (const text of ['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', 'a.b', '@ana', 'https://']) {
      expect(links(text)).toEqual([]);
    }
  });

  it('keeps every character', () => {
    const texts = ['', 'plain', 'https://a.b', 'x https://a.b, y\n<b>no</b> ana@b.cd!', '((https://a.b))'];
    for (const text of texts) expect(linkify(text).map((piece) => piece.text).join('')).toBe(text);
  });
});
