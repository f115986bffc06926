// What axe finds on the main screens, in light and in dark, on a desk and on a phone: nothing.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { blank, id, launch, open, person, say, shows } from './people.mjs';
import { Server } from './server.mjs';

const PHONE = { width: 390, height: 844 };
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

let server;
let browser;
let axe;

before(async () => {
  axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Looks at a screen in both themes. */
async function audit(page, screen) {
  const found = [];
  for (const colorScheme of ['light', 'dark']) {
    // What moves in is judged where it comes to rest.
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.evaluate(() => Promise.all(document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity).map((a) => a.finished.catch(() => undefined))));
    await page.evaluate(axe);
    const { violations } = await page.evaluate((values) => globalThis.axe.run({ runOnly: { type: 'tag', values } }), RULES);
    for (const { id: rule, help, nodes } of violations) {
      for (const { html, any } of nodes) found.push(`${screen} (${colorScheme}): ${rule}: ${help}: ${any[0]?.message ?? ''} ${html.slice(0, 200)}`);
    }
  }
  return found;
}

/** A walk over screens: each is opened, and looked at. */
async function walk(page, screens) {
  const found = [];
  for (const [screen, go] of Object.entries(screens)) {
    await go();
    found.push(...(await audit(page, screen)));
  }
  return found;
}

test('the audit finds what is wrong', async () => {
  const page = await blank(browser);
  await page.goto(server.url);
  await id(page, 'auth-name').waitFor();
  await page.evaluate(() => {
    const pale = Object.assign(document.createElement('p'), { textContent: 'pale' });
    // The page allows no styles in its HTML.
    Object.assign(pale.style, { position: 'fixed', inset: '0 auto auto 0', color: '#ccc', background: '#fff' });
    document.querySelector('main, #app').append(document.createElement('button'), pale);
  });
  const found = (await audit(page, 'spoilt')).join('\n');
  assert.match(found, /button-name/);
  assert.match(found, /color-contrast/);
});

test('signing in and up are for everybody', async () => {
  const page = await blank(browser, PHONE);
  const found = await walk(page, {
    'sign in': async () => {
      await page.goto(server.url);
      await id(page, 'auth-name').waitFor();
    },
    refused: async () => {
      await id(page, 'auth-name').fill('nobody');
      await id(page, 'auth-password').fill('a password of nobody');
      await id(page, 'auth-submit').click();
      await id(page, 'auth-error').filter({ hasText: /./ }).waitFor();
    },
    'sign up': () => id(page, 'auth-switch').click(),
  });
  assert.deepEqual(found, []);
});

for (const [device, viewport] of [['a desk', undefined], ['a phone', PHONE]]) {
  test(`talking on ${device} is for everybody`, async () => {
    const suffix = device.split(' ')[1];
    const other = await person(browser, server.url, `bob${suffix}`, 'Bob Example');
    const page = await person(browser, server.url, `ann${suffix}`, 'Ann Example', viewport);
    const wide = viewport === undefined;
    const back = async () => {
      if (!wide) await id(page, 'back').first().click();
    };
    const menu = async (text) => {
      // A quote has the same words; what it quotes comes first.
      await id(page, 'message').filter({ hasText: text }).first().click({ button: 'right', position: { x: 80, y: 12 } });
      await id(page, 'menu-reply').waitFor();
    };
    const found = await walk(page, {
      'no chats': async () => undefined,
      'a person is searched': async () => {
        await id(page, 'search-input').first().fill(`bob${suffix}`);
        await id(page, 'search-result').first().waitFor();
      },
      'an empty chat': async () => {
        await id(page, 'search-result').first().click();
        await id(page, 'composer-input').waitFor();
      },
      'a chat': async () => {
        await say(page, 'a *first* word and `code`, https://example.org');
        await shows(page, 1);
        await open(other, `ann${suffix}`);
        await shows(other, 1);
        await say(other, 'an answer');
        await shows(page, 2);
      },
      'a menu of a message': () => menu('an answer'),
      'reactions, a quote, an edit and a tombstone': async () => {
        await page.getByRole('menuitemcheckbox').first().click();
        await id(page, 'reaction').first().waitFor();
        await menu('an answer');
        await id(page, 'menu-reply').click();
        await say(page, 'with a quote');
        await id(page, 'quote').first().waitFor();
        await id(page, 'composer-input').press('ArrowUp');
        await id(page, 'editing').waitFor();
        await say(page, 'with a quote, edited');
        await id(page, 'edited').first().waitFor();
        await say(page, 'to be deleted');
        await shows(page, 4);
        await menu('to be deleted');
        await id(page, 'menu-remove').click();
      },
      'a question': () => id(page, 'confirm').waitFor(),
      'an answer to it': async () => {
        await id(page, 'confirm').click();
        await id(page, 'tombstone').first().waitFor();
      },
      'a thread': async () => {
        await menu('an answer');
        await id(page, 'menu-thread').click();
        await id(page, 'thread-input').fill('in the thread');
        await id(page, 'thread-input').press('Enter');
        await id(page, 'thread-panel').getByTestId('message').filter({ hasText: 'in the thread' }).waitFor();
      },
      'about a person': async () => {
        // On a phone it is an arrow, elsewhere a cross.
        await page.getByRole('button', { name: 'Close the thread' }).click();
        await id(page, 'chat-info').click();
        await id(page, 'info-verify').click();
        await id(page, 'notice').filter({ hasText: 'as the server has it' }).waitFor();
      },
      'a new group': async () => {
        await page.keyboard.press('Escape');
        await id(page, 'info-panel').waitFor({ state: 'detached' });
        await back();
        await id(page, 'create-open').click();
        await id(page, 'create-title').waitFor();
      },
      'an empty group': async () => {
        await id(page, 'create-title').fill('Table');
        await id(page, 'create-submit').click();
        await id(page, 'composer-input').waitFor();
      },
      'about a group': async () => {
        await id(page, 'chat-info').click();
        await id(page, 'invite-new').click();
        await id(page, 'invite-make').click();
        await id(page, 'invite').first().waitFor();
      },
      'the list of chats': async () => {
        await page.keyboard.press('Escape');
        await id(page, 'info-panel').waitFor({ state: 'detached' });
        await back();
        await say(other, 'unread by now');
        await id(page, 'unread').first().waitFor();
      },
      'the profile': async () => {
        await id(page, 'profile-open').first().click();
        await id(page, 'profile-display-name').waitFor();
      },
    });
    assert.deepEqual(found, []);
    assert.deepEqual([...page.problems, ...other.problems], []);
  });
}

test('an invitation is for everybody', async () => {
  const owner = await person(browser, server.url, 'owner', 'Owner');
  await id(owner, 'create-open').click();
  await id(owner, 'create-title').fill('Door');
  await id(owner, 'create-submit').click();
  await id(owner, 'chat-info').click();
  await id(owner, 'invite-new').click();
  await id(owner, 'invite-make').click();
  const link = await id(owner, 'invite').first().getAttribute('data-link');
  const page = await person(browser, server.url, 'guest', 'Guest');
  const found = await walk(page, {
    'an invitation': async () => {
      await page.goto(link);
      await id(page, 'join').waitFor();
    },
  });
  assert.deepEqual(found, []);
});
