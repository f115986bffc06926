// A group in real browsers and on a real server: how people come in and go, what each sees of what the others
// do, and that one's devices agree.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { again as another, id, launch, open, person as someone, PATIENCE, say, shown, shows } from './people.mjs';
import { Server } from './server.mjs';

const PHONE = { width: 390, height: 844 };

let server;
let browser;
let pages = [];

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

afterEach(async () => {
  const problems = pages.flatMap((page) => page.problems);
  await Promise.all(pages.map((page) => page.context().close()));
  pages = [];
  assert.deepEqual(problems, [], 'no page had an error');
});

async function person(name, displayName, viewport) {
  const page = await someone(browser, server.url, name, displayName, viewport);
  pages.push(page);
  return page;
}

async function again(name, viewport) {
  const page = await another(browser, server.url, name, viewport);
  pages.push(page);
  return page;
}

/** Makes a group and an invite to it; gives the link. */
async function group(page, title) {
  await id(page, 'create-open').click();
  await id(page, 'create-title').fill(title);
  await id(page, 'create-submit').click();
  await id(page, 'composer-input').waitFor();
  return await invite(page);
}

async function invite(page) {
  await id(page, 'chat-info').click();
  await id(page, 'invite-new').click();
  await id(page, 'invite-make').click();
  const link = await id(page, 'invite').first().getAttribute('data-link');
  await page.keyboard.press('Escape');
  await id(page, 'composer-input').waitFor();
  return link;
}

async function join(page, link) {
  await page.goto(link);
  await id(page, 'join').click();
  await id(page, 'composer-input').waitFor();
}

const chat = (page, title) => page.locator(`[data-testid="chat-list-item"][data-title="${title}"]`);
const message = (page, text) => id(page, 'message').filter({ hasText: text });
const wait = (locator, options) => locator.waitFor({ timeout: PATIENCE, ...options });

/** Opens the menu of a message and chooses. */
async function choose(page, text, choice) {
  await message(page, text).click({ button: 'right', position: { x: 80, y: 12 } });
  await id(page, `menu-${choice}`).click();
}

test('three come together by a link, and each sees what the others change', async () => {
  const ann = await person('gann', 'Ann');
  const bob = await person('gbob', 'Bob', PHONE);
  const cyd = await person('gcyd', 'Cyd');
  const link = await group(ann, 'Table');
  assert.match(link, /#\/join\/[A-Za-z0-9_-]{16,64}$/);
  await join(bob, link);
  await join(cyd, link);
  await wait(id(ann, 'notice-line').filter({ hasText: 'Cyd joined' }));

  await say(ann, 'one');
  await shows(bob, 1);
  await say(bob, 'two');
  await shows(cyd, 2);
  await say(cyd, 'three');
  for (const page of [ann, bob, cyd]) await shows(page, 3);
  assert.deepEqual(await shown(ann), await shown(cyd));
  assert.deepEqual(await shown(ann), await shown(bob));

  // A reaction, an answer, an edit with the arrow key, a deletion: seen by the others as they happen.
  await message(ann, 'two').hover();
  await message(ann, 'two').getByTestId('tool-react').click();
  await id(ann, 'emoji-grid').getByRole('button').first().click();
  await wait(message(cyd, 'two').getByTestId('reaction'));
  await message(cyd, 'two').getByTestId('reaction').click();
  await wait(message(ann, 'two').getByTestId('reaction').filter({ hasText: '2' }));

  await choose(cyd, 'one', 'reply');
  await say(cyd, 'an answer');
  await wait(message(ann, 'an answer').getByTestId('quote').filter({ hasText: 'one' }));

  await id(ann, 'composer-input').press('ArrowUp');
  await wait(id(ann, 'editing'));
  await say(ann, 'one, corrected');
  await wait(message(cyd, 'one, corrected').getByTestId('edited'));
  await message(cyd, 'one, corrected').getByTestId('edited').first().click();
  await wait(id(cyd, 'edits').filter({ hasText: 'one' }));
  await cyd.keyboard.press('Escape');

  await choose(cyd, 'three', 'remove');
  await id(cyd, 'confirm').click();
  for (const page of [ann, cyd]) await wait(id(page, 'tombstone'));

  // A thread: answered in the panel, told in passing to those who look at the group.
  await choose(ann, 'two', 'thread');
  await id(ann, 'thread-input').fill('in the thread');
  await id(ann, 'thread-input').press('Enter');
  await wait(id(cyd, 'thread-line').filter({ hasText: 'in the thread' }));
  await id(cyd, 'thread-chip').click();
  await wait(id(cyd, 'thread-panel').getByTestId('message').filter({ hasText: 'in the thread' }));
});

test('who is removed loses the chat, and who is banned can not come back', async () => {
  const dan = await person('gdan', 'Dan');
  const eva = await person('geva', 'Eva');
  const link = await group(dan, 'Closed table');
  await join(eva, link);
  await say(dan, 'for members');
  await shows(eva, 1);

  const member = () => dan.locator('[data-testid="member"][data-name="geva"]');
  await id(dan, 'chat-info').click();
  await member().getByTestId('member-menu').click();
  await id(dan, 'member-remove').click();
  await id(dan, 'confirm').click();
  await wait(id(eva, 'gone').filter({ hasText: 'Dan removed you' }));
  await wait(chat(eva, 'Closed table'), { state: 'detached' });
  await wait(member(), { state: 'detached' });

  await join(eva, link);
  await shows(eva, 1);
  await member().getByTestId('member-menu').click();
  await id(dan, 'member-ban').click();
  await id(dan, 'confirm').click();
  await wait(id(eva, 'gone'));
  await eva.goto(link);
  await id(eva, 'join').click();
  await wait(id(eva, 'join-page').filter({ hasText: 'can not come back' }));
});

test('what was read on one device is read on the other, and drafts and settings go along', async () => {
  const fox = await person('gfox', 'Fox');
  const gus = await person('ggus', 'Gus');
  const phone = await again('ggus', PHONE);
  await open(fox, 'ggus');
  for (const text of ['a', 'b', 'c']) await say(fox, text);
  for (const page of [gus, phone]) await wait(chat(page, 'Fox').getByTestId('unread').filter({ hasText: '3' }));

  await chat(phone, 'Fox').click();
  await shows(phone, 3);
  await wait(chat(gus, 'Fox').getByTestId('unread'), { state: 'detached' });
  // The sender sees that it was read.
  await wait(fox.locator('[data-testid="reach"][data-reach="seen"]').nth(2));

  await id(phone, 'composer-input').fill('begun on the phone');
  await wait(chat(gus, 'Fox').getByTestId('draft-mark'));
  await chat(gus, 'Fox').click();
  await gus.waitForFunction(() => document.querySelector('[data-testid="composer-input"]')?.value === 'begun on the phone');

  await id(gus, 'chat-info').click();
  await id(gus, 'info-mute').click();
  await id(gus, 'mute-always').click();
  await id(phone, 'back').click();
  await wait(chat(phone, 'Fox').getByTestId('muted'));
});

test('somebody who is mentioned in a group is told so, also by a mention of everybody', async () => {
  const hal = await person('ghal', 'Hal');
  const ivy = await person('givy', 'Ivy');
  const link = await group(hal, 'Mentions');
  await join(ivy, link);
  await ivy.goto(server.url);
  await say(hal, 'nothing for anybody');
  await wait(chat(ivy, 'Mentions').getByTestId('unread').filter({ hasText: '1' }));
  assert.equal(await chat(ivy, 'Mentions').getByTestId('mention').count(), 0);
  await id(hal, 'composer-input').fill('hello @gi');
  await hal.keyboard.press('End');
  await hal.keyboard.type('v');
  await wait(id(hal, 'mention-list').filter({ hasText: 'Ivy' }));
  await hal.keyboard.press('Enter');
  await hal.keyboard.press('Enter');
  await wait(chat(ivy, 'Mentions').getByTestId('mention'));
  await chat(ivy, 'Mentions').click();
  await wait(message(ivy, '@givy').locator('.mention.me'));
  await wait(chat(ivy, 'Mentions').getByTestId('mention'), { state: 'detached' });
});

test('messages are pinned, forwarded, put off and hidden, and a thread is a page on a phone', async () => {
  const jon = await person('gjon', 'Jon', PHONE);
  const kim = await person('gkim', 'Kim');
  await join(kim, await group(jon, 'Verbs'));
  await say(jon, 'to be kept');
  await say(jon, 'to be hidden');
  await shows(kim, 2);

  await choose(jon, 'to be kept', 'pin');
  await wait(id(kim, 'pinned').filter({ hasText: 'to be kept' }));
  await choose(jon, 'to be hidden', 'hide');
  await shows(jon, 1);
  await shows(kim, 2);

  // Long messages above, so that the pinned one must be gone to.
  for (let n = 0; n < 40; n += 1) await say(kim, `line ${n}`);
  await wait(message(jon, 'line 39'));
  await id(kim, 'pinned').getByRole('button').first().click();
  await wait(message(kim, 'to be kept'));

  await open(kim, 'gjon');
  await id(kim, 'composer-input').fill('later');
  await id(kim, 'schedule').click();
  await id(kim, 'schedule-choice').first().click();
  await id(kim, 'scheduled-open').click();
  await wait(id(kim, 'scheduled-list').filter({ hasText: 'later' }));
  await kim.keyboard.press('Escape');
  assert.equal(await id(kim, 'message').count(), 0);

  await chat(kim, 'Verbs').click();
  await choose(kim, 'line 39', 'forward');
  await id(kim, 'forward-chat').filter({ hasText: 'Jon' }).click();
  await id(kim, 'forward-submit').click();
  await chat(kim, 'Jon').click();
  await wait(message(kim, 'line 39').filter({ hasText: 'Forwarded from' }));

  await choose(jon, 'line 39', 'thread');
  await wait(id(jon, 'thread-panel'));
  assert.equal(await id(jon, 'composer-input').isVisible(), false);
  await id(jon, 'thread-input').fill('on the phone');
  await id(jon, 'thread-input').press('Enter');
  await wait(id(jon, 'thread-panel').getByTestId('message').filter({ hasText: 'on the phone' }));
  await jon.goBack();
  await wait(id(jon, 'thread-line').filter({ hasText: 'on the phone' }));
});
