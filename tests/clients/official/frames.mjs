// What no client of theirs sends, and what becomes of those who do.

import { describe, test } from 'node:test';
import { ROOM, WebSocket, assert, connect, server, signIn, within } from './harness.mjs';

describe('bad frames', () => {
  /** Opens a bare socket, sends, and gives the code it is closed with. */
  async function closeCode(...frames) {
    const { token } = await signIn('alice');
    const socket = new WebSocket(`ws://${server.host}:${server.port}/ws?token=${token}`);
    const closed = new Promise((resolve, reject) => {
      socket.on('close', resolve);
      socket.on('error', reject);
    });
    await within(new Promise((resolve) => socket.on('open', resolve)), 'a bare socket opens');
    for (const frame of frames) socket.send(frame);
    return within(closed, 'the server closes');
  }

  test('close with their codes, and nobody else notices', async () => {
    const alice = await connect('alice');
    const { id } = await alice.socket.joinChat('unharmed', ROOM, true, false);
    assert.equal(await closeCode('nonsense'), 1000);
    assert.equal(await closeCode('{"cid":"1","ping":{},"unknown":1}'), 1000);
    assert.equal(await closeCode('{"cid":"1","ping":{},"pong":{}}'), 1000);
    assert.equal(await closeCode('{"cid":"1"}'), 1000);
    assert.equal(await closeCode(Buffer.from('{"cid":"1","ping":{}}')), 1000);
    assert.equal(await closeCode('x'.repeat(4097)), 1009);
    assert.ok((await alice.socket.writeChatMessage(id, {})).message_id);
    assert.equal(alice.closed, null);
    alice.socket.disconnect();
  });
});
