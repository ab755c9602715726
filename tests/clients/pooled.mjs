// The official client on Node's own fetch and WebSocket, which share their connections: each socket is opened behind REST
// calls, twenty times, and all of them chat.
//
// Run by tests/tests/proxies with Node 22. STENTOR_TEST_ORIGIN is where the server, or a proxy before it, answers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '@heroiclabs/nakama-js';
import { within } from './server.mjs';

const OPENINGS = 20;
const origin = new URL(process.env.STENTOR_TEST_ORIGIN);

const warn = console.warn;
console.warn = (...words) => /lifetime too short/.test(words[0]) || warn(...words);

test('twenty openings behind REST calls', async () => {
  assert.ok(globalThis.WebSocket, 'this Node has no WebSocket of its own');
  const client = new Client('defaultkey', origin.hostname, origin.port, origin.protocol === 'https:');
  const listeners = [];
  for (let n = 0; n < OPENINGS; n += 1) {
    const name = `pooled-${n}`;
    const session = await client.authenticateCustom(`custom-id-of-${name}`, true, name);
    assert.equal((await client.getAccount(session)).user.username, name);
    const socket = client.createSocket(origin.protocol === 'https:', false);
    const heard = new Map();
    const waiting = new Map();
    socket.onchannelmessage = (message) => {
      heard.set(message.message_id, message.content.text);
      waiting.get(message.message_id)?.();
    };
    await within(socket.connect(session, false), `opening ${n}`);
    const channel = await within(socket.joinChat('pooled', 1, true, false), `joining ${n}`);
    listeners.push({ socket, heard, waiting });
    const ack = await within(socket.writeChatMessage(channel.id, { text: name }), `sending ${n}`);
    for (const listener of listeners) {
      await within(new Promise((resolve) => {
        listener.waiting.set(ack.message_id, resolve);
        if (listener.heard.has(ack.message_id)) resolve();
      }), `message ${n} at everybody`);
      assert.equal(listener.heard.get(ack.message_id), name);
    }
    const page = await client.listChannelMessages(session, channel.id, 1, false);
    assert.equal(page.messages[0].message_id, ack.message_id);
  }
  for (const { socket } of listeners) socket.disconnect();
});
