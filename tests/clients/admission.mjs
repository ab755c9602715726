// A server that lets one client in in a second: what the official client and a page in a real browser learn.
//
// Run by tests/tests/admission; by hand: STENTOR_BIN=target/release/stentor node admission.mjs.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';
import { openBrowser } from './browser.mjs';
import { Server, within } from './server.mjs';

globalThis.WebSocket = WebSocket;

/** Far more openings than are let in while they are made. */
const OPENINGS = 6;

const server = new Server('--openings-per-second', '1', '--session-ttl', '3600');
let browser;
let session;

before(async () => {
  await server.start();
  session = await new Client('defaultkey', server.host, String(server.port), false).authenticateCustom('custom-id-of-ada', true, 'ada');
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
});

test('a page is told in the close frame, and comes back when it may', async () => {
  const page = await browser.newPage();
  await page.goto(server.origin);
  const address = `${server.socketOrigin}/ws?token=${session.token}`;
  const open = (count) => page.evaluate(async ([url, sockets]) => {
    const one = () => new Promise((resolve) => {
      const socket = new WebSocket(url);
      socket.onopen = () => socket.send('{"cid":"1","ping":{}}');
      socket.onmessage = () => resolve({ open: true });
      socket.onclose = ({ code, reason }) => resolve({ open: false, code, reason });
    });
    return Promise.all(Array.from({ length: sockets }, one));
  }, [address, count]);
  const refused = (await open(OPENINGS)).filter((outcome) => !outcome.open);
  assert.ok(refused.length > 0, 'one is let in in a second');
  for (const { code, reason } of refused) {
    assert.equal(code, 1013);
    assert.match(reason, /^retry_after_ms=\d+; too many clients/);
  }
  // Each attempt waits as it is told, so one of the next is let in.
  const again = async () => {
    const [outcome] = await open(1);
    if (outcome.open) return;
    await new Promise((resolve) => { setTimeout(resolve, Number(/^retry_after_ms=(\d+);/.exec(outcome.reason)[1])); });
    await again();
  };
  await again();
});

test('the chat page says why it is not let in', async () => {
  const page = await browser.newPage();
  const full = { code: 1013, reason: 'retry_after_ms=1000; the hall is full' };
  await page.routeWebSocket(/\/ws/, (socket) => socket.onMessage(() => socket.close(full)));
  await page.goto(server.origin);
  await page.getByLabel('Your name').fill('grace');
  await page.getByLabel('Room').fill('hall');
  await page.getByRole('button', { name: 'Enter' }).click();
  await page.locator('#door-trouble', { hasText: 'the hall is full' }).waitFor();
});

test('the official client, which is no browser here, sees the status', async () => {
  const client = new Client('defaultkey', server.host, String(server.port), false);
  const attempts = Array.from({ length: OPENINGS }, () => {
    const socket = client.createSocket(false, false);
    socket.onerror = () => {};
    return within(socket.connect(session, false), 'a connection').then(() => socket.disconnect(false), () => 'refused');
  });
  const outcomes = await Promise.all(attempts);
  assert.ok(outcomes.includes('refused'));
  const status = await new Promise((resolve) => {
    const sockets = Array.from({ length: OPENINGS }, () => new WebSocket(`${server.socketOrigin}/ws?token=${session.token}`));
    for (const socket of sockets) {
      socket.on('unexpected-response', (_, answer) => resolve([answer.statusCode, Number(answer.headers['retry-after'])]));
      socket.on('error', () => {});
    }
  });
  assert.equal(status[0], 429);
  assert.ok(status[1] >= 1, `${status}`);
});
