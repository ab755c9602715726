// A certificate is renewed under 1,000 open sessions, of which some are of the official client: none of them is closed or
// misses a message, those of the official client talk on, and sessions that open afterwards see the new one.

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';
import { Server, within } from './server.mjs';

// The official client opens its sockets with the browser's class. NODE_EXTRA_CA_CERTS has it trust the certificates.
globalThis.WebSocket = WebSocket;

const SESSIONS = 1000;
/** Those of them that the official client has, each with a user of its own. */
const OFFICIAL = 50;
const ROOM = 1;
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

/** A member of the room in the official client. */
async function official(number) {
  const client = new Client('defaultkey', server.host, server.port, true, 10_000, false);
  const session = await within(client.authenticateCustom(`custom-id-of-official-${number}`, true), 'a sign-in');
  const socket = client.createSocket(true, false);
  const seen = { client, session, socket, contents: [], closed: null };
  socket.ondisconnect = (event) => (seen.closed = event.code);
  socket.onchannelmessage = (message) => seen.contents.push(JSON.stringify(message.content));
  await within(socket.connect(session, false), 'an opening');
  seen.channel = (await within(socket.joinChat('renewed', ROOM, true, true), 'a join')).id;
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
  const officials = [];
  while (officials.length < OFFICIAL) {
    const next = Array.from({ length: 10 }, (_, number) => official(officials.length + number));
    officials.push(...(await Promise.all(next)));
  }
  while (members.length < SESSIONS - OFFICIAL) {
    members.push(...(await Promise.all(Array.from({ length: OPENING }, () => member(token)))));
  }
  const say = (said) => {
    const content = JSON.stringify({ said });
    members[0].socket.send(JSON.stringify({ channel_message_send: { channel_id: members[0].channel, content } }));
    const all = () => [...members, ...officials].every((seen) => seen.contents.includes(content));
    return until(all, `${said} for all members`);
  };
  /** Each official client says something, and everybody hears it. */
  const talk = async (when) => {
    const content = (number) => ({ official: number, when });
    const say = ({ socket, channel }, number) => socket.writeChatMessage(channel, content(number));
    const acks = await within(Promise.all(officials.map(say)), `acknowledgements ${when}`);
    for (const ack of acks) assert.ok(ack.message_id);
    const expected = officials.map((_, number) => JSON.stringify(content(number)));
    const heard = ({ contents }) => expected.every((text) => contents.includes(text));
    await until(() => [...members, ...officials].every(heard), `what was said ${when}`);
  };
  await say('before');
  const before = await serial();
  for (const file of ['cert.pem', 'key.pem']) copyFileSync(join(directory, `next-${file}`), join(directory, file));
  process.kill(server.pid, 'SIGHUP');
  await until(async () => (await serial()) !== before, 'the new certificate');
  await say('after');
  await talk('after the change');
  // REST over new connections, which see the new certificate, and sessions that go on with it.
  for (const { client, session } of officials.slice(0, 5)) {
    const { messages } = await within(client.listChannelMessages(session, officials[0].channel, 1, false), 'a page');
    assert.equal(messages.length, 1);
  }
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
  await talk('at the end');
  for (const seen of [...members, ...officials]) assert.equal(seen.closed, null);
  // What the first member has said four times, and each official client twice.
  const all = 4 + 2 * OFFICIAL;
  for (const seen of [...members.slice(0, SESSIONS - OFFICIAL), ...officials]) assert.equal(seen.contents.length, all);
});
