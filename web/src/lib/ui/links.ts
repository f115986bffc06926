// Finds links in text. The text stays text: what is not a link is not touched.

/** A piece of text, with an address when it is a link. */
export interface Piece {
  text: string;
  href?: string;
}

const LINK = /\b(?:https?:\/\/|mailto:)[^\s<>"“”]+|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b/giu;
/** Signs that end a sentence rather than an address. */
const TRAILING = /[.,;:!?'’)\]}]+$/;

export function linkify(text: string): Piece[] {
  const pieces: Piece[] = [];
  let done = 0;
  for (const match of text.matchAll(LINK)) {
    const found = trimmed(match[0]);
    const href = addressOf(found);
    if (!href) continue;
    if (match.index > done) pieces.push({ text: text.slice(done, match.index) });
    pieces.push({ text: found, href });
    done = match.index + found.length;
  }
  if (done < text.length) pieces.push({ text: text.slice(done) });
  return pieces;
}

/** Only web and mail addresses become links, whatever the text claims. */
function addressOf(found: string): string | undefined {
  const written = /^(https?:|mailto:)/i.test(found) ? found : `mailto:${found}`;
  if (!URL.canParse(written)) return undefined;
  const url = new URL(written);
  return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : undefined;
}

function trimmed(found: string): string {
  let link = found;
  for (;;) {
    const tail = TRAILING.exec(link)?.[0];
    if (!tail) return link;
    // A closing bracket belongs to the address when it opened in it.
    const last = link.slice(-1);
    const opening = { ')': '(', ']': '[', '}': '{' }[last];
    if (opening && count(link, opening) >= count(link, last)) return link;
    link = link.slice(0, -1);
  }
}

const count = (text: string, sign: string) => text.split(sign).length - 1;
