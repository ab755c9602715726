// A server that is killed. This section is the last: it starts the server anew.

import { describe, test } from 'node:test';
import { Session } from '@heroiclabs/nakama-js';
import { Listener, ROOM, assert, client, server, signIn, wholeHistory } from './harness.mjs';

describe('a killed server', () => {
  test('comes back with its history, its accounts and valid tokens', async () => {
    const session = await signIn('survivor');
    const before = await Listener.connect(session);
    const { id } = await before.socket.joinChat('survival', ROOM, true, false);
    const acks = await Promise.all(Array.from({ length: 50 }, (_, n) => before.socket.writeChatMessage(id, { n })));
    const told = acks.map((ack) => ack.message_id);
    const seen = await client.listChannelMessages(session, id, 100);
    await server.kill();
    await before.until(() => before.closed, 'the client notices');
    await server.start();

    assert.equal((await client.getAccount(session)).user.username, 'survivor');
    assert.deepEqual((await wholeHistory(id, session, 20)).map((m) => m.message_id), told);
    const after = await Listener.connect(Session.restore(session.token, session.refresh_token));
    const channel = await after.socket.joinChat('survival', ROOM, true, false);
    assert.deepEqual(channel.presences ?? [], [], 'presences die with their sockets');
    const next = await after.socket.writeChatMessage(id, { n: 50 });
    assert.ok(next.message_id > told.at(-1), 'message ids rise across a restart');
    const missed = await client.listChannelMessages(session, id, 100, true, seen.cacheable_cursor);
    assert.deepEqual(missed.messages.map((m) => m.message_id), [next.message_id], 'cursors outlive a restart');
    after.socket.disconnect();
  });
});
