// The unmodified official JavaScript client signs users in with the tokens of an identity provider, chats, and renews its
// session. Run by tests/tests/identity; by hand: STENTOR_BIN=target/release/stentor node identity.mjs

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';
import { jwk, privateKey, token } from './provider.mjs';
import { Server, temporaryDirectory, within } from './server.mjs';

globalThis.WebSocket = WebSocket;

const ROOM = 1;
const ISSUER = 'https://id.example';
const directory = temporaryDirectory('provider');
const key = privateKey(directory, 'one', 'ES256');
const keys = join(directory, 'jwks.json');
writeFileSync(keys, JSON.stringify({ keys: [jwk(key, 'one', 'ES256')] }));
const provider = ['--identity-issuer', ISSUER, '--identity-audience', 'chat', '--identity-keys', keys];
const server = new Server(...provider, '--identity-direct', '--session-ttl', '2h', '--refresh-ttl', '3h');

const of = (sub, name, more = {}) => {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, aud: 'chat', sub, preferred_username: name, iat: now, exp: now + 300, ...more };
  return token(key, 'one', 'ES256', claims);
};

let client;
before(async () => {
  await server.start();
  client = new Client('defaultkey', server.host, String(server.port), false, 7000, false);
});

test('a token of the provider gives a session like any other', async () => {
  const session = await client.authenticateCustom(of('ada-1', 'ada'), true, 'ignored', { lang: 'de' });
  assert.equal(session.created, true);
  assert.equal(session.username, 'ada');
  assert.deepEqual(session.vars, { lang: 'de' });
  const again = await client.authenticateCustom(of('ada-1', 'renamed'));
  assert.equal(again.created, false);
  assert.equal(again.user_id, session.user_id);
  assert.equal(again.username, 'ada');
  const account = await client.getAccount(session);
  assert.equal(account.custom_id, `${ISSUER} ada-1`);
  const renewed = await client.sessionRefresh(session);
  assert.equal(renewed.user_id, session.user_id);

  const socket = client.createSocket(false, false);
  await within(socket.connect(session, false), 'the socket opens');
  const { id } = await socket.joinChat('lobby', ROOM, true, false);
  const heard = new Promise((resolve) => {
    socket.onchannelmessage = resolve;
  });
  await socket.writeChatMessage(id, { text: 'hello' });
  const message = await within(heard, 'the message');
  assert.equal(message.sender_id, session.user_id);
  assert.equal(message.username, 'ada');
  socket.disconnect(false);
});

test('a token of the provider that is not good is refused', async () => {
  const now = Math.floor(Date.now() / 1000);
  for (const more of [{ aud: 'other' }, { iss: 'https://other.example' }, { exp: now - 60 }, { nbf: now + 600 }]) {
    await assert.rejects(client.authenticateCustom(of('eve', 'eve', more)), (answer) => answer.status === 401);
  }
});

test('where the operator lets it, the token opens the socket itself', async () => {
  const grace = of('grace-1', 'grace');
  const socket = client.createSocket(false, false);
  // The client puts the token of its session into the query, whatever it is.
  await within(socket.connect({ token: grace }, false), 'the socket opens');
  const joined = await socket.joinChat('lobby', ROOM, true, false);
  assert.equal(joined.self.username, 'grace');
  const session = await client.authenticateCustom(grace);
  assert.equal(session.created, false);
  assert.equal(session.user_id, joined.self.user_id);
  socket.disconnect(false);
});
