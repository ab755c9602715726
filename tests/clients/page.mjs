// The chat page in a real browser: two pages talk to each other, as two people would with mouse and keyboard.
//
// Run by tests/tests/page.rs; by hand: STENTOR_BIN=target/release/stentor node page.mjs. Leaves pictures in target/.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';
import { openBrowser } from './browser.mjs';
import { Server } from './server.mjs';

globalThis.WebSocket = WebSocket;

const target = join(dirname(fileURLToPath(import.meta.url)), '../../target');
const server = new Server();
// Its rooms are crowds early.
const crowded = new Server('--room-members-max', '10');
let browser;
let ada, grace;
const complaints = [];

before(async () => {
  mkdirSync(target, { recursive: true });
  await server.start();
  browser = await openBrowser();
  ada = await openPage();
  grace = await openPage();
});

after(async () => {
  await browser?.close();
});

async function openPage(prepare = async () => {}, from = server) {
  const page = await browser.newPage();
  await prepare(page);
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (line) => line.text().includes('Content Security Policy') && complaints.push(line.text()));
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(from.origin)) complaints.push(`fetched ${request.url()}`);
  });
  await page.goto(from.origin);
  return page;
}

async function enter(page, name, room) {
  await page.bringToFront();
  await page.getByLabel('Your name').fill(name);
  await page.getByLabel('Room').fill(room);
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.locator('#state[data-state=open]').waitFor();
}

async function say(page, text) {
  await page.bringToFront();
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
  await message(page, text).waitFor();
}

const message = (page, text) => page.locator('.message', { hasText: text });
const present = (page) => page.locator('#present li');
async function picture(page, name) {
  await page.bringToFront();
  await page.screenshot({ path: join(target, name) });
}

/** Waits until `found` is true in the page. */
const until = (page, found, argument) => page.waitForFunction(found, argument);

test('the door says in words what is wrong', async () => {
  await picture(ada, 'page-door.png');
  await ada.getByText('Settings').click();
  await ada.getByLabel('Server key').fill('wrongkey');
  await ada.getByLabel('Your name').fill('ada');
  await ada.getByRole('button', { name: 'Enter' }).click();
  await ada.locator('#door-trouble', { hasText: 'server key' }).waitFor();
  await ada.getByLabel('Server key').fill('defaultkey');
  await ada.getByLabel('Room').fill('ü'.repeat(33));
  await ada.getByRole('button', { name: 'Enter' }).click();
  await ada.locator('#door-trouble', { hasText: 'too long' }).waitFor();
});

test('two pages see each other come', async () => {
  await enter(ada, 'ada', 'engine room');
  assert.equal(await ada.title(), 'engine room · Stentor');
  assert.deepEqual(await present(ada).allInnerTexts().then((texts) => texts.length), 1);
  await enter(grace, 'grace', 'engine room');
  await present(ada).filter({ hasText: 'grace' }).waitFor();
  await present(grace).filter({ hasText: 'ada' }).waitFor();
  assert.equal(await ada.locator('#count').innerText(), '2');
  assert.equal(await grace.locator('#count').innerText(), '2');
});

test('they talk, and markup stays text', async () => {
  await say(ada, 'Hello, is anybody there?');
  await message(grace, 'Hello, is anybody there?').waitFor();
  const markup = '<img src=x onerror="document.title=1"> & <b>bold</b> "quotes" 🎉';
  await say(grace, markup);
  await message(ada, '<b>bold</b>').waitFor();
  assert.equal(await ada.locator('.bubble').last().innerText(), markup);
  assert.equal(await ada.locator('.bubble img, .bubble b').count(), 0);
  assert.equal(await ada.title(), 'engine room · Stentor');
  await say(ada, 'first line\nsecond line');
  assert.ok((await message(grace, 'second line').locator('.bubble').innerText()).includes('first line\nsecond line'));
  assert.equal(await message(grace, 'second line').locator('.byline b').textContent(), 'ada');
  assert.ok(await message(ada, 'second line').evaluate((item) => item.classList.contains('own')));
});

test('own messages can be changed and removed, others not', async () => {
  await say(ada, 'helo');
  const own = message(ada, 'helo');
  await own.hover();
  await own.getByRole('button', { name: 'Edit' }).click();
  await ada.getByLabel('Edit your message').fill('hello again');
  await ada.getByRole('button', { name: 'Save' }).click();
  await message(grace, 'hello again').locator('.edited').waitFor();
  await message(ada, 'hello again').locator('.edited').waitFor();
  assert.equal(await message(grace, 'helo').filter({ hasNotText: 'hello' }).count(), 0);

  await ada.getByLabel('Message', { exact: true }).focus();
  await ada.keyboard.press('ArrowUp');
  await ada.getByLabel('Edit your message').fill('hello once more');
  await ada.keyboard.press('Enter');
  await message(grace, 'hello once more').waitFor();

  assert.equal(await message(grace, 'hello once more').locator('.tools').count(), 0);
  const changed = message(ada, 'hello once more');
  await changed.hover();
  await changed.getByRole('button', { name: 'Remove' }).click();
  await changed.getByRole('button', { name: 'Sure?' }).click();
  await message(grace, 'hello once more').waitFor({ state: 'detached' });
  await message(ada, 'hello once more').waitFor({ state: 'detached' });
});

test('what is sent once is sent once, however slow the answer', async () => {
  const slow = await openPage(async (page) => {
    await page.routeWebSocket(/\/ws/, (socket) => {
      const behind = socket.connectToServer();
      behind.onMessage((frame) => setTimeout(() => socket.send(frame), 400));
    });
  });
  await enter(slow, 'tess', 'engine room');
  const box = slow.getByLabel('Message', { exact: true });
  await box.pressSequentially('slow one');
  await slow.keyboard.press('Enter');
  await slow.keyboard.press('Enter');
  await box.pressSequentially('slow two');
  await slow.keyboard.press('Enter');
  await message(ada, 'slow two').waitFor();
  await message(slow, 'slow two').waitFor();
  assert.deepEqual(await message(ada, 'slow').locator('.bubble').allInnerTexts(), ['slow one', 'slow two']);
  assert.equal(await box.inputValue(), '');
  await slow.close();
});

test('a draft outlives a change of its message in another tab', async () => {
  await say(ada, 'of two tabs');
  const twin = await ada.context().newPage();
  await twin.goto(server.origin);
  await enter(twin, 'ada', 'engine room');
  const draft = async (words) => {
    await twin.bringToFront();
    await twin.getByLabel('Message', { exact: true }).focus();
    await twin.keyboard.press('ArrowUp');
    await twin.getByLabel('Edit your message').fill(words);
  };
  const change = async (from, to) => {
    await message(ada, from).hover();
    await message(ada, from).getByRole('button', { name: 'Edit' }).click();
    await ada.getByLabel('Edit your message').fill(to);
    await ada.keyboard.press('Enter');
    await message(grace, to).waitFor();
  };
  await message(twin, 'of two tabs').waitFor();
  await draft('draft of the twin');
  await ada.bringToFront();
  await change('of two tabs', 'changed by the other');
  await twin.locator('#notice', { hasText: 'changed by the other' }).waitFor();
  assert.equal(await twin.getByLabel('Edit your message').inputValue(), 'draft of the twin');
  await twin.bringToFront();
  await twin.getByLabel('Edit your message').press('Escape');
  await message(twin, 'changed by the other').waitFor();

  await draft('words that must not go');
  await ada.bringToFront();
  await message(ada, 'changed by the other').hover();
  await message(ada, 'changed by the other').getByRole('button', { name: 'Remove' }).click();
  await message(ada, 'changed by the other').getByRole('button', { name: 'Sure?' }).click();
  await twin.locator('#notice', { hasText: 'is gone' }).waitFor();
  assert.equal(await twin.getByLabel('Message', { exact: true }).inputValue(), 'words that must not go');
  await twin.close();
});

test('the keyboard edits and removes', async () => {
  const box = ada.getByLabel('Message', { exact: true });
  const focused = (label) => until(ada, (wanted) => document.activeElement.textContent === wanted, label);
  const showsTools = (text) => message(ada, text).locator('.tools').evaluate((tools) => getComputedStyle(tools).opacity);
  await say(ada, 'the one before');
  await say(ada, 'by keybord');
  await box.focus();
  await ada.keyboard.press('Shift+Tab');
  await focused('Remove');
  assert.equal(await showsTools('by keybord'), '1');
  assert.equal(await showsTools('the one before'), '0');
  await ada.keyboard.press('Shift+Tab');
  await focused('Edit');
  assert.equal(await ada.evaluate(() => document.getElementById(document.activeElement.getAttribute('aria-describedby')).innerText), 'by keybord');
  await ada.keyboard.press('Enter');
  await ada.getByLabel('Edit your message').fill('by keyboard');
  await ada.keyboard.press('Enter');
  await message(ada, 'by keyboard').locator('.edited').waitFor();
  await message(grace, 'by keyboard').waitFor();
  assert.ok(await box.evaluate((area) => area === document.activeElement));

  await ada.keyboard.press('Shift+Tab');
  // A key that is held down is no second answer, and Escape takes the question back.
  await ada.keyboard.down('Enter');
  await ada.keyboard.down('Enter');
  await ada.keyboard.up('Enter');
  await focused('Sure?');
  await ada.keyboard.press('Escape');
  await focused('Remove');
  await ada.keyboard.press('Space');
  await focused('Sure?');
  await ada.keyboard.press('Space');
  await message(grace, 'by keyboard').waitFor({ state: 'detached' });
  await message(ada, 'by keyboard').waitFor({ state: 'detached' });
  assert.ok(await box.evaluate((area) => area === document.activeElement), 'the keyboard is somewhere');
  await message(grace, 'the one before').waitFor();
});

test('a link before everything else leads past the messages', async () => {
  const address = ada.url();
  await ada.bringToFront();
  await ada.getByRole('button', { name: 'Leave' }).focus();
  await ada.keyboard.press('Shift+Tab');
  const skip = ada.getByRole('link', { name: 'To the message box' });
  assert.ok(await skip.evaluate((link) => link === document.activeElement && link.getBoundingClientRect().width > 40));
  await ada.keyboard.press('Enter');
  assert.ok(await ada.getByLabel('Message', { exact: true }).evaluate((area) => area === document.activeElement));
  assert.equal(ada.url(), address, 'the address still names the room');
});

test('what is too long is said in words, and nothing is lost', async () => {
  const box = ada.getByLabel('Message', { exact: true });
  await box.fill('long '.repeat(1000));
  await ada.keyboard.press('Enter');
  await ada.locator('#notice', { hasText: 'too long' }).waitFor();
  assert.equal((await box.inputValue()).length, 5000);
  await box.fill('');
  await say(ada, 'short');
  assert.equal(await ada.locator('#notice').isVisible(), false);
});

test('the pictures', async () => {
  await say(grace, 'The Analytical Engine weaves algebraical patterns.');
  await say(ada, 'Just as the Jacquard loom weaves flowers and leaves.');
  await message(grace, 'Jacquard').waitFor();
  await picture(ada, 'page.png');
  await ada.emulateMedia({ colorScheme: 'dark' });
  await picture(ada, 'page-dark.png');
  await ada.emulateMedia({ colorScheme: 'light' });
  await ada.setViewportSize({ width: 390, height: 760 });
  await picture(ada, 'page-narrow.png');
  await ada.setViewportSize({ width: 1100, height: 720 });
});

test('scrolling up finds the older messages', async () => {
  const MANY = 130;
  await grace.bringToFront();
  const client = new Client('defaultkey', server.host, String(server.port), false);
  const socket = client.createSocket(false, false);
  await socket.connect(await client.authenticateCustom('custom-id-of-chatterbox', true, 'chatterbox'), false);
  const { id } = await socket.joinChat('archive', 1, true, true);
  for (let n = 1; n <= MANY; n += 1) await socket.writeChatMessage(id, { text: `message number ${n}.` });
  socket.disconnect();

  await grace.getByRole('button', { name: 'Leave' }).click();
  await present(ada).filter({ hasText: 'grace' }).waitFor({ state: 'detached' });
  await enter(grace, 'grace', 'archive');
  await message(grace, `number ${MANY}.`).waitFor();
  assert.equal(await grace.locator('.message').count(), 50);
  while ((await grace.locator('.message').count()) < MANY) {
    const before = await grace.locator('.message').count();
    const anchor = await grace.locator('.message').first().innerText();
    await grace.locator('#log').evaluate((log) => { log.scrollTop = 0; });
    await until(grace, (count) => document.querySelectorAll('.message').length > count, before);
    assert.ok(await message(grace, anchor.trim().split('\n').at(-1)).first().isVisible(), 'the place is kept');
    assert.ok(await grace.locator('#log').evaluate((log) => log.scrollTop > 0));
  }
  const texts = await grace.locator('.bubble').allInnerTexts();
  assert.deepEqual(texts, Array.from({ length: MANY }, (_, n) => `message number ${n + 1}.`));
  await grace.locator('#log').evaluate((log) => { log.scrollTop = 0; });
  await grace.getByText('This is the beginning of archive.').waitFor();
});

test('a page that reads above is told of what is new', async () => {
  await enter(await another(), 'hedy', 'archive');
  await grace.locator('#log').evaluate((log) => { log.scrollTop = 0; });
  await say(pages.at(-1), 'something new');
  await grace.bringToFront();
  await grace.getByRole('button', { name: 'New messages' }).click();
  assert.ok(await message(grace, 'something new').isVisible());
  await grace.getByRole('button', { name: 'New messages' }).waitFor({ state: 'hidden' });
});

const pages = [];
async function another(prepare) {
  pages.push(await openPage(prepare));
  return pages.at(-1);
}

test('after a kill the pages come back and catch up', async () => {
  const hedy = pages.at(-1);
  await server.kill();
  await grace.locator('#state[data-state=lost]').waitFor();
  await grace.bringToFront();
  await grace.getByLabel('Message', { exact: true }).fill('said into the void');
  await grace.keyboard.press('Enter');
  await grace.locator('#notice', { hasText: 'no connection' }).waitFor();
  await server.start();
  await Promise.all([hedy, grace].map((page) => page.locator('#state[data-state=open]').waitFor()));
  assert.equal(await grace.locator('#state').innerText(), 'Connected');
  assert.equal(await grace.locator('#notice').isVisible(), false, 'the connection is not missed any longer');
  assert.equal(await grace.getByLabel('Message', { exact: true }).inputValue(), 'said into the void');
  await grace.getByLabel('Message', { exact: true }).fill('');
  await say(hedy, 'we are back');
  await message(grace, 'we are back').waitFor();
  assert.equal(await message(grace, 'something new').count(), 1, 'nothing twice');
  await present(grace).filter({ hasText: 'hedy' }).waitFor();
  assert.equal(await grace.locator('.message').count(), 132);
});

test('what was said while a page was away is there when it returns', async () => {
  const hedy = pages.at(-1);
  // For this page the network stays away longer than the server.
  let away = false;
  const back = await another(async (page) => {
    await page.routeWebSocket(/\/ws/, (socket) => (away ? socket.close() : socket.connectToServer()));
  });
  await enter(back, 'mary', 'archive');
  await message(back, 'we are back').waitFor();
  away = true;
  await server.kill();
  await back.locator('#state[data-state=lost]').waitFor();
  await server.start();
  await hedy.locator('#state[data-state=open]').waitFor();
  await say(hedy, 'said meanwhile');
  await message(hedy, 'we are back').hover();
  await message(hedy, 'we are back').getByRole('button', { name: 'Remove' }).click();
  await message(hedy, 'we are back').getByRole('button', { name: 'Sure?' }).click();
  await message(hedy, 'we are back').waitFor({ state: 'detached' });
  assert.notEqual(await back.locator('#state').getAttribute('data-state'), 'open');
  away = false;
  await back.locator('#state[data-state=open]').waitFor();
  await message(back, 'said meanwhile').waitFor();
  await message(back, 'we are back').waitFor({ state: 'detached' });
});

test('a crowd is counted, whether it is known or not', async () => {
  const [MEMBERS, KNOWN] = [40, 10];
  await crowded.start();
  const page = await openPage(async () => {}, crowded);
  await enter(page, 'mary', 'crowd');
  const client = new Client('defaultkey', crowded.host, String(crowded.port), false);
  const sockets = [];
  for (let n = 0; n < MEMBERS; n += 1) {
    const socket = client.createSocket(false, false);
    await socket.connect(await client.authenticateCustom(`custom-id-of-member-${n}`, true, `member-${n}`), false);
    await socket.joinChat('crowd', 1, true, false);
    sockets.push(socket);
  }
  const counts = (count) => until(page, (wanted) => document.getElementById('count').textContent === wanted, String(count));
  await counts(MEMBERS + 1);
  const known = await present(page).count() - 1;
  assert.ok(known <= KNOWN, `${known} are known`);
  assert.equal(await present(page).last().innerText(), `and ${MEMBERS + 1 - known} more`);
  // It comes back to the same crowd, and is told of it in another way.
  await page.getByRole('button', { name: 'Leave' }).click();
  await enter(page, 'mary', 'crowd');
  await counts(MEMBERS + 1);
  for (const socket of sockets.splice(3)) socket.disconnect();
  await counts(4);
  await present(page).nth(3).waitFor();
  assert.equal(await present(page).count(), 4, 'a room again: everybody is known');
});

test('on the narrowest screens all that is wrong can be read', async () => {
  await ada.bringToFront();
  await ada.setViewportSize({ width: 360, height: 640 });
  await server.kill();
  await ada.locator('#state[data-state=lost]').waitFor();
  const cut = await ada.locator('#hall header').evaluate((header) =>
    [...header.children].filter((part) => part.id !== 'skip' && part.scrollWidth > part.clientWidth + 1 && part.clientWidth).map((part) => part.id));
  assert.deepEqual(cut, []);
  assert.ok(await ada.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing sticks out');
  await picture(ada, 'page-lost.png');
  await server.start();
  await ada.locator('#state[data-state=open]').waitFor();
});

test('after a change of keys the pages sign in anew at once', async () => {
  await server.kill();
  for (const key of ['session.key', 'refresh.key']) rmSync(join(server.data, key));
  await server.start();
  await ada.locator('#state[data-state=open]').waitFor();
  await say(ada, 'signed by another key');
});

test('the browser runs and fetches nothing that the page does not have', async () => {
  const page = await browser.newPage();
  await page.goto(server.origin);
  const violated = await page.evaluate(async (elsewhere) => {
    const found = [];
    document.addEventListener('securitypolicyviolation', (event) => found.push(event.effectiveDirective));
    const add = (name, change) => document.body.append(Object.assign(document.createElement(name), change));
    add('script', { textContent: 'window.ran = true' });
    add('style', { textContent: 'body { color: red }' });
    add('img', { src: `${elsewhere}/x.png` });
    add('iframe', { src: elsewhere });
    add('base', { href: elsewhere });
    await fetch(elsewhere).catch(() => {});
    try { new WebSocket(elsewhere.replace('http', 'ws')); } catch { /* Some browsers throw. */ }
    for (let n = 0; n < 100 && found.length < 7; n += 1) await new Promise((done) => setTimeout(done, 20));
    return { directives: [...new Set(found)].sort(), ran: window.ran, count: found.length };
  }, crowded.origin);
  assert.deepEqual(violated, {
    directives: ['base-uri', 'connect-src', 'frame-src', 'img-src', 'script-src-elem', 'style-src-elem'],
    ran: undefined,
    count: 7,
  });
  const framed = await browser.newPage();
  const refused = framed.waitForEvent('console', (line) => line.text().includes('frame-ancestors'));
  await framed.setContent(`<iframe src="${server.origin}"></iframe>`);
  await refused;
  await Promise.all([page, framed].map((one) => one.close()));
});

test('nothing failed on the way and nothing came from elsewhere', () => {
  assert.deepEqual(complaints, []);
});
