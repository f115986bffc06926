// The Markdown of docs/guides/markdown.md as a tree. The tree has no HTML in it: what is not a mark is text,
// and text is shown as text. No text of a message's length takes long to read, whatever is in it.

import { linkify } from '../ui/links';
import { MENTION, nameOf } from './mentions';

export type Block =
  | { kind: 'paragraph'; inlines: Inline[] }
  | { kind: 'code'; text: string; language: string }
  | { kind: 'quote'; blocks: Block[] }
  | { kind: 'list'; ordered: boolean; start: number; items: Inline[][] };

export type Inline =
  | { kind: 'text'; text: string }
  | { kind: 'bold' | 'italic' | 'strike'; inlines: Inline[] }
  | { kind: 'code'; text: string }
  | { kind: 'link'; text: string; href: string }
  | { kind: 'mention'; text: string; name: string };

/** Quotes in quotes, and marks in marks, go no deeper; what is deeper is text. */
const DEPTH_MAX = 6;

const FENCE = /^```([\w+#.-]{0,20})\s*$/;
const QUOTE = /^>[ \t]?/;
const BULLET = /^[-*][ \t]+(?=\S)/;
const NUMBER = /^(\d{1,9})[.)][ \t]+(?=\S)/;

export function parse(text: string): Block[] {
  return blocks(text.split('\n'), 0);
}

function blocks(lines: readonly string[], depth: number): Block[] {
  const out: Block[] = [];
  let paragraph: string[] = [];
  const flush = () => {
    while (paragraph[0]?.trim() === '') paragraph.shift();
    while (paragraph.at(-1)?.trim() === '') paragraph.pop();
    if (paragraph.length > 0) out.push({ kind: 'paragraph', inlines: inlines(paragraph.join('\n'), 0) });
    paragraph = [];
  };
  for (let i = 0; i < lines.length; ) {
    const line = lines[i] ?? '';
    const fence = FENCE.exec(line);
    const end = fence ? lines.findIndex((l, n) => n > i && /^```\s*$/.test(l)) : -1;
    if (fence && end > i) {
      flush();
      out.push({ kind: 'code', language: fence[1] ?? '', text: lines.slice(i + 1, end).join('\n') });
      i = end + 1;
    } else if (QUOTE.test(line) && depth < DEPTH_MAX) {
      flush();
      const inside = run(lines, i, QUOTE);
      out.push({ kind: 'quote', blocks: blocks(inside, depth + 1) });
      i += inside.length;
    } else if (BULLET.test(line) || NUMBER.test(line)) {
      flush();
      const mark = BULLET.test(line) ? BULLET : NUMBER;
      const inside = run(lines, i, mark);
      const start = Number(NUMBER.exec(line)?.[1] ?? 1);
      out.push({ kind: 'list', ordered: mark === NUMBER, start, items: inside.map((item) => inlines(item, 0)) });
      i += inside.length;
    } else {
      paragraph.push(line);
      i += 1;
    }
  }
  flush();
  return out;
}

/** The lines from here on that begin with the mark, without it. */
function run(lines: readonly string[], from: number, mark: RegExp): string[] {
  const out: string[] = [];
  for (let i = from; i < lines.length && mark.test(lines[i] ?? ''); i += 1) out.push((lines[i] ?? '').replace(mark, ''));
  return out;
}

const MARKS: ReadonlyArray<{ mark: string; kind: 'bold' | 'italic' | 'strike' }> = [
  { mark: '**', kind: 'bold' },
  { mark: '~~', kind: 'strike' },
  { mark: '*', kind: 'italic' },
  { mark: '_', kind: 'italic' },
];

function inlines(text: string, depth: number): Inline[] {
  const out: Inline[] = [];
  let plain = '';
  const flush = () => {
    if (plain) out.push(...plainInlines(plain));
    plain = '';
  };
  // A mark that was not closed once is not closed later either, so it is searched for only once.
  const unclosed = new Set<string>();
  for (let i = 0; i < text.length; ) {
    const char = text[i] ?? '';
    if (char === '\\' && /[\\`*_~>[\]()#@-]/.test(text[i + 1] ?? '')) {
      plain += text[i + 1];
      i += 2;
      continue;
    }
    const found = codeAt(text, i, unclosed) ?? linkAt(text, i, unclosed) ?? addressAt(text, i) ?? markAt(text, i, depth, unclosed);
    if (found) {
      flush();
      out.push(found.inline);
      i = found.end;
    } else {
      plain += char;
      i += 1;
    }
  }
  flush();
  return out;
}

interface Found {
  inline: Inline;
  end: number;
}

function codeAt(text: string, i: number, unclosed: Set<string>): Found | undefined {
  if (text[i] !== '`' || unclosed.has('`')) return undefined;
  const end = text.indexOf('`', i + 1);
  if (end < 0) unclosed.add('`');
  if (end <= i + 1) return undefined;
  return { inline: { kind: 'code', text: text.slice(i + 1, end) }, end: end + 1 };
}

/** `[words](address)`; an address that is none of the web or of mail leaves the text as it is. */
function linkAt(text: string, i: number, unclosed: Set<string>): Found | undefined {
  if (text[i] !== '[' || unclosed.has('](')) return undefined;
  const middle = text.indexOf('](', i + 1);
  if (middle < 0) unclosed.add('](');
  const end = middle < 0 ? -1 : text.indexOf(')', middle + 2);
  if (end < 0) unclosed.add('](');
  if (end < 0 || middle === i + 1) return undefined;
  const [piece, ...rest] = linkify(text.slice(middle + 2, end));
  if (!piece?.href || rest.length > 0) return undefined;
  const words = text.slice(i + 1, middle);
  if (words.includes('[') || words.includes('\n')) return undefined;
  return { inline: { kind: 'link', text: words, href: piece.href }, end: end + 1 };
}

/** Addresses are taken whole, so that the marks in them are not marks. */
function addressAt(text: string, i: number): Found | undefined {
  if (text[i] !== 'h' || /[\p{L}\p{N}]/u.test(text[i - 1] ?? '') || !/^https?:\/\//.test(text.slice(i, i + 8))) return undefined;
  const word = /^\S+/.exec(text.slice(i, i + 2048))?.[0] ?? '';
  const [piece] = linkify(word);
  if (!piece?.href) return undefined;
  return { inline: { kind: 'link', text: piece.text, href: piece.href }, end: i + piece.text.length };
}

function markAt(text: string, i: number, depth: number, unclosed: Set<string>): Found | undefined {
  if (depth >= DEPTH_MAX) return undefined;
  for (const { mark, kind } of MARKS) {
    if (!text.startsWith(mark, i) || unclosed.has(mark) || !opens(text, i, mark)) continue;
    const end = closing(text, i + mark.length, mark);
    if (end < 0) {
      unclosed.add(mark);
      continue;
    }
    return { inline: { kind, inlines: inlines(text.slice(i + mark.length, end), depth + 1) }, end: end + mark.length };
  }
  return undefined;
}

/** Marks hug their words: `*so*`, not `2 * 3 * 4`; and `snake_case_names` are no marks. */
function opens(text: string, i: number, mark: string): boolean {
  const before = text[i - 1] ?? ' ';
  const after = text[i + mark.length] ?? ' ';
  if (/\s/.test(after) || after === mark[0]) return false;
  return mark !== '_' || !/[\p{L}\p{N}_]/u.test(before);
}

function closing(text: string, from: number, mark: string): number {
  for (let at = text.indexOf(mark, from); at >= 0; at = text.indexOf(mark, at + 1)) {
    const before = text[at - 1] ?? ' ';
    const after = text[at + mark.length] ?? ' ';
    if (at === from || /\s/.test(before) || before === '\\') continue;
    if (mark === '_' && /[\p{L}\p{N}_]/u.test(after)) continue;
    // One star does not close where two stand.
    if (mark.length === 1 && (after === mark || before === mark)) continue;
    return at;
  }
  return -1;
}

function plainInlines(text: string): Inline[] {
  return linkify(text).flatMap((piece): Inline[] => (piece.href ? [{ kind: 'link', text: piece.text, href: piece.href }] : withMentions(piece.text)));
}

function withMentions(text: string): Inline[] {
  const out: Inline[] = [];
  let done = 0;
  for (const match of text.matchAll(MENTION)) {
    const name = nameOf(match[1] ?? '');
    const written = (match[1] ?? '').slice(0, name.length);
    if (match.index > done) out.push({ kind: 'text', text: text.slice(done, match.index) });
    out.push({ kind: 'mention', text: `@${written}`, name });
    done = match.index + 1 + written.length;
  }
  if (done < text.length) out.push({ kind: 'text', text: text.slice(done) });
  return out;
}

/** The words alone, on one line: for lists, quotes and notifications. */
export function plainText(text: string): string {
  const ofInlines = (all: readonly Inline[]): string => all.map((i) => ('inlines' in i ? ofInlines(i.inlines) : i.text)).join('');
  const ofBlock = (block: Block): string => {
    if (block.kind === 'paragraph') return ofInlines(block.inlines);
    if (block.kind === 'code') return block.text;
    if (block.kind === 'quote') return block.blocks.map(ofBlock).join(' ');
    return block.items.map(ofInlines).join(', ');
  };
  return parse(text).map(ofBlock).join(' ').replace(/\s+/g, ' ').trim();
}
