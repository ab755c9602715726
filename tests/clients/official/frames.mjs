// What no client of theirs sends, and what becomes of those who do.

import { describe, test } from 'node:test';
import { ROOM, WebSocket, assert, connect, format, formatName, server, signIn, within } from './harness.mjs';

describe('bad frames', () => {
  /** Opens a bare socket, sends, and gives the code it is closed with. */
  async function closeCode(frame) {
    const { token } = await signIn('alice');
    const socket = new WebSocket(`${server.socketOrigin}/ws?token=${token}&format=${formatName}`);
    const closed = new Promise((resolve, reject) => {
      socket.on('close', resolve);
      socket.on('error', reject);
    });
    await within(new Promise((resolve) => socket.on('open', resolve)), 'a bare socket opens');
    socket.send(frame);
    return within(closed, 'the server closes');
  }

  test('close with their codes, and nobody else notices', async () => {
    const alice = await connect('alice');
    const { id } = await alice.socket.joinChat('unharmed', ROOM, true, false);
    for (const [what, frame] of Object.entries(format.bad)) assert.equal(await closeCode(frame), 1000, what);
    assert.equal(await closeCode('x'.repeat(4097)), 1009);
    assert.ok((await alice.socket.writeChatMessage(id, {})).message_id);
    assert.equal(alice.closed, null);
    alice.socket.disconnect();
  });
});
