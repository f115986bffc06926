// Two people talk in two real browsers while the server is killed with SIGKILL and started again.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Server } from './server.mjs';

const ARGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
const PATIENCE = 30_000;

let server;
let browser;

before(async () => {
  server = await Server.start();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
});

after(async () => {
  await browser?.close();
  await server?.end();
});

const id = (page, name) => page.getByTestId(name);

/** A person in a browser of their own, signed up. */
async function person(name, displayName, viewport = { width: 1280, height: 800 }) {
  const context = await browser.newContext({ viewport });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  await page.goto(server.url);
  await id(page, 'auth-switch').click();
  await id(page, 'auth-name').fill(name);
  await id(page, 'auth-display-name').fill(displayName);
  await id(page, 'auth-password').fill(`the long password of ${[...name].reverse().join('')}`);
  await id(page, 'auth-submit').click();
  await id(page, 'search-input').first().waitFor();
  return page;
}

async function open(page, query) {
  await id(page, 'search-input').first().fill(query);
  await id(page, 'search-result').first().click();
  await id(page, 'composer-input').waitFor();
}

async function say(page, text) {
  await id(page, 'composer-input').fill(text);
  await id(page, 'composer-input').press('Enter');
}

/** What is shown, from top to bottom. */
async function shown(page) {
  return page.getByTestId('message').evaluateAll((messages) =>
    messages.map((m) => ({
      seq: m.dataset.seq ?? '',
      text: m.querySelector('[data-testid="message-text"]')?.textContent?.trim() ?? '',
    })),
  );
}

/** Waits until a page shows exactly so many stored messages. */
async function shows(page, count) {
  await page.waitForFunction(
    (count) => {
      const messages = [...document.querySelectorAll('[data-testid="message"]')];
      return messages.length === count && messages.every((m) => Number(m.dataset.seq) > 0);
    },
    count,
    { timeout: PATIENCE },
  );
}

test('two browsers talk over a killed server, and both end with the same messages, each once, in order', async () => {
  const ann = await person('ann', 'Ann Example');
  const bob = await person('bob', 'Bob Example', { width: 390, height: 844 });
  await open(ann, 'bob');
  await say(ann, 'hello bob');
  await id(bob, 'chat-list-item').first().click();
  await shows(bob, 1);
  await say(bob, 'hello ann');
  await shows(ann, 2);

  // Both go on writing while the server dies, is away, and comes back.
  await say(ann, 'before the end 1');
  await say(bob, 'before the end 2');
  await server.kill();
  for (const n of [1, 2, 3]) {
    await say(ann, `in the dark, ann ${n}`);
    await say(bob, `in the dark, bob ${n}`);
  }
  // What is unsent outlives a reload, although the page itself can not be loaded before the server is back.
  await server.up();
  await ann.reload();
  await id(ann, 'composer-input').or(id(ann, 'chat-list-item').first()).first().waitFor();
  if (!(await id(ann, 'composer-input').isVisible())) await id(ann, 'chat-list-item').first().click();
  await say(bob, 'after it 1');
  await shows(ann, 11);
  await shows(bob, 11);

  const [anns, bobs] = [await shown(ann), await shown(bob)];
  assert.deepEqual(anns, bobs, 'both see the same');
  assert.deepEqual(anns.map((m) => Number(m.seq)), Array.from({ length: 11 }, (_, n) => n + 1));
  const texts = anns.map((m) => m.text);
  assert.equal(new Set(texts).size, texts.length, 'each once');
  for (const who of ['ann', 'bob']) {
    const own = texts.filter((t) => t.startsWith(`in the dark, ${who}`));
    assert.deepEqual(own, [1, 2, 3].map((n) => `in the dark, ${who} ${n}`), 'in the order of the sender');
  }
  assert.deepEqual([...ann.problems, ...bob.problems], []);
});

test('a message that was typed without a server is sent when it is back, once', async () => {
  const cyd = await person('cyd', 'Cyd');
  const dan = await person('dan', 'Dan');
  await open(cyd, 'dan');
  await say(cyd, 'one');
  await shows(cyd, 1);
  for (let round = 2; round <= 4; round += 1) {
    await server.kill();
    await say(cyd, `round ${round}`);
    await server.up();
    await shows(cyd, round);
  }
  await id(dan, 'chat-list-item').first().click();
  await shows(dan, 4);
  assert.deepEqual(await shown(dan), await shown(cyd));
});

test('it can be used with the keyboard alone', async () => {
  const eva = await person('eva', 'Eva');
  await person('fox', 'Fox');
  await eva.keyboard.press('Control+k');
  await eva.keyboard.type('fox');
  await id(eva, 'search-result').first().waitFor();
  await eva.keyboard.press('ArrowDown');
  await eva.keyboard.press('Enter');
  await id(eva, 'composer-input').waitFor();
  await eva.waitForFunction(() => document.activeElement?.getAttribute('data-testid') === 'composer-input');
  await eva.keyboard.type('no mouse');
  await eva.keyboard.press('Enter');
  await shows(eva, 1);
});
