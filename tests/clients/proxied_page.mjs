// The chat page as people reach it in the end: in a browser, through a proxy, encrypted.
//
// Run by tests/tests/proxies. STENTOR_TEST_ORIGIN is where the proxy answers, and STENTOR_TEST_PROTOCOL what it speaks to the
// browser.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openBrowser } from './browser.mjs';

const ENTRIES = 20;
const origin = process.env.STENTOR_TEST_ORIGIN;
let browser;

before(async () => {
  browser = await openBrowser({ ignoreHTTPSErrors: true });
});

after(async () => {
  await browser?.close();
});

async function enter(page, name) {
  await page.bringToFront();
  await page.getByLabel('Your name').fill(name);
  await page.getByLabel('Room').fill('proxied');
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.locator('#state[data-state=open]').waitFor();
}

async function say(page, text) {
  await page.bringToFront();
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

test('two pages enter, talk and leave, again and again', async () => {
  const [ada, grace] = [await browser.newPage(), await browser.newPage()];
  for (const page of [ada, grace]) {
    page.on('console', (message) => console.log(message.text()));
    await page.goto(origin);
  }
  const protocol = await ada.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
  assert.equal(protocol, process.env.STENTOR_TEST_PROTOCOL);
  await enter(ada, 'ada');
  for (let n = 0; n < ENTRIES; n += 1) {
    await enter(grace, 'grace');
    await say(grace, `grace is here for the ${n}th time.`);
    await ada.locator('.message', { hasText: `the ${n}th time.` }).waitFor();
    await say(ada, `hello for the ${n}th time.`);
    await grace.locator('.message', { hasText: `hello for the ${n}th time.` }).waitFor();
    await grace.bringToFront();
    await grace.getByRole('button', { name: 'Leave' }).click();
  }
});
