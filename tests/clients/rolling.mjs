// People who chat through a proxy while the servers behind it are drained and started again, one after the other. They use
// the official client and come back whenever their socket closes.
//
// It goes on until the file STENTOR_TEST_STOP is there. Then it writes what was acknowledged to STENTOR_TEST_ACKS, a
// message id a line, and how each socket ended to STENTOR_TEST_CLOSES, a code a line.

import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';

globalThis.WebSocket = WebSocket;

const PEOPLE = Number(process.env.STENTOR_TEST_PEOPLE);
const ROOM = 1;
/** Between two messages of a person, and before a person comes back. */
const PAUSE_MS = 50;

const [host, port] = process.env.STENTOR_TEST_PROXY.split(':');
const isOver = () => existsSync(process.env.STENTOR_TEST_STOP);
const acknowledged = [];
const closes = [];

/** Opens a socket; while no server takes it, tries again. */
async function connected(client, session, onClose) {
  while (!isOver()) {
    const socket = client.createSocket(false, false);
    let code;
    socket.ondisconnect = (event) => {
      code = event.code;
      onClose(event.code);
    };
    socket.onerror = () => {};
    try {
      await socket.connect(session, false, 10_000);
      const { id } = await socket.joinChat('rolling', ROOM, true, false);
      return { socket, id };
    } catch {
      // A socket that opened and closed before it was in the room is a close like others.
      if (code === undefined) socket.disconnect(false);
      await sleep(PAUSE_MS);
    }
  }
  return null;
}

/** One person: in the room, saying something again and again, until it is over. */
async function chat(number) {
  const client = new Client('defaultkey', host, port, false, 10_000, false);
  const session = await client.authenticateCustom(`custom-id-of-roller-${number}`, true, `roller-${number}`);
  while (!isOver()) {
    let open = true;
    let opened = false;
    const connection = await connected(client, session, (code) => {
      open = false;
      if (opened) closes.push(code);
    });
    if (connection === null) return;
    opened = true;
    while (open && !isOver()) {
      // A message that is not acknowledged when the socket closes may be stored or not.
      const ack = await Promise.race([
        connection.socket.writeChatMessage(connection.id, { number }).catch(() => null),
        sleep(500, null),
      ]);
      if (ack?.message_id) acknowledged.push(ack.message_id);
      await sleep(PAUSE_MS);
    }
    if (open) connection.socket.disconnect(false);
  }
}

test('people come back from every drain', async () => {
  await Promise.all(Array.from({ length: PEOPLE }, (_, number) => chat(number)));
  assert.ok(acknowledged.length > PEOPLE, `${acknowledged.length} messages were acknowledged`);
  writeFileSync(process.env.STENTOR_TEST_ACKS, acknowledged.map((id) => `${id}\n`).join(''));
  writeFileSync(process.env.STENTOR_TEST_CLOSES, closes.map((code) => `${code}\n`).join(''));
});
