// Two people talk in two real browsers while the server is killed with SIGKILL and started again.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { id, launch, open, person as someone, say, shown, shows } from './people.mjs';
import { Server } from './server.mjs';

let server;
let browser;

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

const person = (name, displayName, viewport) => someone(browser, server.url, name, displayName, viewport);

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
