// People in browsers of their own, for the tests of the whole system.

import { chromium } from 'playwright-core';

const ARGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
export const PATIENCE = 30_000;

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });

export const id = (page, name) => page.getByTestId(name);

const passwordOf = (name) => `the long password of ${[...name].reverse().join('')}`;

/** A page in a browser of its own; `problems` is what went wrong in it. */
export async function blank(browser, viewport = { width: 1280, height: 800 }) {
  const context = await browser.newContext({ viewport });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  return page;
}

/** A person in a browser of their own, signed up. */
export async function person(browser, url, name, displayName, viewport) {
  const page = await blank(browser, viewport);
  await page.goto(url);
  await id(page, 'auth-switch').click();
  await id(page, 'auth-name').fill(name);
  await id(page, 'auth-display-name').fill(displayName);
  await id(page, 'auth-password').fill(passwordOf(name));
  await id(page, 'auth-submit').click();
  await id(page, 'search-input').first().waitFor();
  return page;
}

/** The same person on another device. */
export async function again(browser, url, name, viewport) {
  const page = await blank(browser, viewport);
  await page.goto(url);
  await id(page, 'auth-name').fill(name);
  await id(page, 'auth-password').fill(passwordOf(name));
  await id(page, 'auth-submit').click();
  await id(page, 'search-input').first().waitFor();
  return page;
}

/** Opens the chat with a person who is searched for. */
/** Opens a direct chat, until its composer is there in place of the one of the chat before. */
export async function open(page, query) {
  const before = await id(page, 'composer-input').elementHandles();
  await id(page, 'search-input').first().fill(query);
  await id(page, 'search-result').first().click();
  for (const composer of before) await composer.waitForElementState('hidden');
  await id(page, 'composer-input').waitFor();
}

export async function say(page, text) {
  await id(page, 'composer-input').fill(text);
  await id(page, 'composer-input').press('Enter');
}

/** What is shown, from top to bottom. */
export async function shown(page) {
  return page.getByTestId('message').evaluateAll((messages) =>
    messages.map((m) => ({
      seq: m.dataset.seq ?? '',
      text: m.querySelector('[data-testid="message-text"]')?.textContent?.trim() ?? '',
    })),
  );
}

/** Waits until a page shows exactly so many stored messages. */
export async function shows(page, count) {
  await page.waitForFunction(
    (count) => {
      const messages = [...document.querySelectorAll('[data-testid="message"]')];
      return messages.length === count && messages.every((m) => Number(m.dataset.seq) > 0);
    },
    count,
    { timeout: PATIENCE },
  );
}
