// A certificate is renewed under 1,000 open sessions: none of them is closed or misses a message, and sessions that open
// afterwards see the new one.

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import WebSocket from 'ws';
import { Server, within } from './server.mjs';

const SESSIONS = 1000;
/** Sessions that open at a time. */
const OPENING = 50;
const directory = process.env.STENTOR_TEST_TLS;
const ca = readFileSync(join(directory, 'ca.pem'));

const server = new Server('--sessions-per-user', '0', '--work-per-user', '0', '--memberships-per-user', '0');

async function signIn() {
  const answer = await fetch(`${server.origin}/v2/account/authenticate/device?create=true`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('defaultkey:')}`, 'content-type': 'application/json' },
    body: JSON.stringify({ id: 'certificates-device' }),
  });
  return (await answer.json()).token;
}

/** A member of the room, which counts what it hears. */
async function member(token) {
  const socket = new WebSocket(`${server.socketOrigin}/ws?token=${token}`, { ca });
  const seen = { socket, contents: [], closed: null };
  socket.on('close', (code) => (seen.closed = code));
  const joined = new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data) => {
      const envelope = JSON.parse(data);
      if (envelope.cid === 'join') resolve(envelope.channel);
      if (envelope.channel_message) seen.contents.push(envelope.channel_message.content);
    });
  });
  await within(new Promise((resolve) => socket.on('open', resolve)), 'an opening');
  const join = { target: 'renewed', type: 1, hidden: true };
  socket.send(JSON.stringify({ cid: 'join', channel_join: join }));
  seen.channel = (await within(joined, 'a join')).id;
  return seen;
}

/** The serial number of the certificate that a new connection gets. */
function serial() {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: server.host, port: server.port, ca }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

async function until(holds, what) {
  const looking = async () => {
    while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await within(looking(), what);
}

test('a renewed certificate closes nothing', { timeout: 200_000 }, async () => {
  await server.start();
  const members = [];
  const token = await signIn();
  while (members.length < SESSIONS) {
    members.push(...(await Promise.all(Array.from({ length: OPENING }, () => member(token)))));
  }
  const say = (said) => {
    const content = JSON.stringify({ said });
    members[0].socket.send(JSON.stringify({ channel_message_send: { channel_id: members[0].channel, content } }));
    return until(() => members.every((seen) => seen.contents.includes(content)), `${said} for all members`);
  };
  await say('before');
  const before = await serial();
  for (const file of ['cert.pem', 'key.pem']) copyFileSync(join(directory, `next-${file}`), join(directory, file));
  process.kill(server.pid, 'SIGHUP');
  await until(async () => (await serial()) !== before, 'the new certificate');
  await say('after');
  const late = await member(token);
  members.push(late);
  await say('to all');
  // A file that is no key changes nothing: the certificate in force stays.
  const renewed = await serial();
  copyFileSync(join(directory, 'ca.pem'), join(directory, 'key.pem'));
  process.kill(server.pid, 'SIGHUP');
  await until(() => server.said().includes('cannot be used: the old one stays'), 'a line in the log');
  assert.equal(await serial(), renewed);
  await say('at the end');
  for (const seen of members) assert.equal(seen.closed, null);
  for (const seen of members.slice(0, SESSIONS)) assert.equal(seen.contents.length, 4);
});
