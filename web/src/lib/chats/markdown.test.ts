import { describe, expect, it } from 'vitest';
import type { UserId } from '../api/ids';
import { parse, plainText, type Block, type Inline } from './markdown';
import { mentionsIn, typedMention } from './mentions';
import { Role } from './model';
import { mulberry, seeds } from './random';

/** A tree in short, to be compared. */
function short(node: Block | Inline): unknown {
  if ('inlines' in node) return [node.kind, ...node.inlines.map(short)];
  if (node.kind === 'quote') return ['quote', ...node.blocks.map(short)];
  if (node.kind === 'list') return [node.ordered ? `list ${node.start}` : 'list', ...node.items.map((item) => item.map(short))];
  if (node.kind === 'link') return ['link', node.text, node.href];
  if (node.kind === 'text') return node.text;
  return [node.kind, node.text];
}
const tree = (text: string) => parse(text).map(short);
const line = (text: string) => (tree(text)[0] as unknown[]).slice(1);

describe('markdown', () => {
  it('knows bold, italic, strike and code', () => {
    expect(line('**b** *i* _i_ ~~s~~ `c`')).toEqual([['bold', 'b'], ' ', ['italic', 'i'], ' ', ['italic', 'i'], ' ', ['strike', 's'], ' ', ['code', 'c']]);
    expect(line('**b *i* b**')).toEqual([['bold', 'b ', ['italic', 'i'], ' b']]);
  });

  it('leaves signs alone that are no marks', () => {
    for (const text of ['2 * 3 * 4', 'snake_case_name', 'a ** b', '*', '**', '``', '~~', '_ _', '*not closed', '5*3', ':-*']) {
      expect(plainText(text)).toBe(text);
    }
    expect(line('\\*so\\*')).toEqual(['*so*']);
  });

  it('does not look for marks in code', () => {
    expect(line('`**x** <b>`')).toEqual([['code', '**x** <b>']]);
    expect(tree('```rust\nlet x = **y;\n\n> no quote\n```')).toEqual([['code', 'let x = **y;\n\n> no quote']]);
    expect(tree('```\nnot closed')).toEqual([['paragraph', '```\nnot closed']]);
  });

  it('knows quotes and lists', () => {
    expect(tree('> a\n> > b\nc')).toEqual([['quote', ['paragraph', 'a'], ['quote', ['paragraph', 'b']]], ['paragraph', 'c']]);
    expect(tree('- a\n- **b**')).toEqual([['list', ['a'], [['bold', 'b']]]]);
    expect(tree('3. a\n4. b')).toEqual([['list 3', ['a'], ['b']]]);
  });

  it('keeps line breaks in paragraphs', () => {
    expect(tree('a\nb\n\nc')).toEqual([['paragraph', 'a\nb\n\nc']]);
  });

  it('makes links of addresses and of named ones, whole', () => {
    expect(line('see https://a.example/x_y_z*w* ok')).toEqual(['see ', ['link', 'https://a.example/x_y_z*w*', 'https://a.example/x_y_z*w*'], ' ok']);
    expect(line('[words](https://a.example/)')).toEqual([['link', 'words', 'https://a.example/']]);
    expect(line('ana@example.org')).toEqual([['link', 'ana@example.org', 'mailto:ana@example.org']]);
  });

  it('knows mentions, and not those in words, addresses or code', () => {
    expect(line('hi @ana.b, @Everyone.')).toEqual(['hi ', ['mention', '@ana.b'], ', ', ['mention', '@Everyone'], '.']);
    expect(line('a@ana `@ana` x@ana.org')).not.toContainEqual(['mention', '@ana']);
  });

  const ATTACKS = [
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](\tjavascript:alert(1))',
    '[x](data:text/html;base64,PHNjcmlwdD4=)',
    '[x](vbscript:msgbox)',
    '[x](//evil.example)',
    '[x](https://good.example" onclick="alert(1))',
    '![x](https://a.example/x.png)',
    '<https://a.example><svg/onload=alert(1)>',
    '[javascript:alert(1)](https://a.example)',
    '`<b>`<i>',
    '```\n</code><script>\n```',
    '&lt;script&gt;',
    'https://a.example/"><script>',
    'javascript://%0aalert(1)',
    '\u202ehttps://a.example',
  ];
  it.each(ATTACKS)('makes of %s only text and addresses of the web and of mail', (text) => expectHarmless(text));

  it('reads the longest texts of marks in little time, and none of them too deep', () => {
    const begun = Date.now();
    for (const unit of ['*', '**', '_a', '[', '[a](', '`', '> ', '~~a', '@a', '**a*b', '\\', '- ', 'https://', '(((', '```\n']) {
      const text = unit.repeat(Math.ceil(8000 / unit.length)).slice(0, 8000);
      expectHarmless(text);
    }
    expect(Date.now() - begun).toBeLessThan(4000);
  });

  for (const seed of seeds(20)) {
    it(`loses no letter and makes nothing harmful of random texts (seed ${seed})`, () => {
      const random = mulberry(seed);
      const bits = ['*', '**', '_', '~~', '`', '```', '\n', '> ', '- ', '1. ', '[', '](', ')', 'https://a.example', 'javascript:', '<b>', ' ', 'word', '@ana', '\\', '"'];
      for (let n = 0; n < 60; n += 1) {
        const text = Array.from({ length: 30 }, () => bits[Math.floor(random() * bits.length)]).join('');
        expectHarmless(text);
        const letters = (s: string) => [...s.matchAll(/word|ana/g)].length;
        expect(letters(plainText(text))).toBeLessThanOrEqual(letters(text));
        if (!text.includes('](')) expect(letters(plainText(text))).toBe(letters(text));
      }
    });
  }
});

/** Every address is one of the web or of mail, and every node is one that is known. */
function expectHarmless(text: string): void {
  const walk = (node: Block | Inline, depth: number): void => {
    expect(depth).toBeLessThan(20);
    if (node.kind === 'link') expect(node.href).toMatch(/^(https?:\/\/|mailto:)/);
    if ('inlines' in node) node.inlines.forEach((n) => walk(n, depth + 1));
    if (node.kind === 'quote') node.blocks.forEach((n) => walk(n, depth + 1));
    if (node.kind === 'list') node.items.flat().forEach((n) => walk(n, depth + 1));
    expect(['paragraph', 'code', 'quote', 'list', 'text', 'bold', 'italic', 'strike', 'link', 'mention']).toContain(node.kind);
  };
  parse(text).forEach((block) => walk(block, 0));
}

describe('mentions', () => {
  const userOf = (name: string) => ({ ana: '2', bea: '3' })[name] as UserId | undefined;

  it('are the members that are named, and everybody only for those who may', () => {
    expect(mentionsIn('hi @ana and @Bea, @nobody', userOf, false)).toEqual({ userIds: ['2', '3'], everyone: false, role: Role.UNSPECIFIED });
    expect(mentionsIn('@everyone @admins', userOf, true)).toEqual({ userIds: [], everyone: true, role: Role.ADMIN });
    expect(mentionsIn('@everyone @admins', userOf, false)).toBeUndefined();
  });

  it('are looked for where the caret stands', () => {
    expect(typedMention('hi @an', 6)).toEqual({ from: 3, query: 'an' });
    expect(typedMention('@', 1)).toEqual({ from: 0, query: '' });
    expect(typedMention('mail@an', 7)).toBeUndefined();
    expect(typedMention('hi @an there', 12)).toBeUndefined();
  });
});
