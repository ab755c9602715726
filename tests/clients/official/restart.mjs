// A server that is killed. This section is the last: it starts the server anew.

import { describe, test } from 'node:test';
import { Session } from '@heroiclabs/nakama-js';
import {
  DIRECT, GROUP, Listener, ROOM, assert, client, disconnect, refused, rejected, server, signIn, strangers, wholeHistory,
} from './harness.mjs';

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

  test('comes back with its groups, friends and notifications, and cursors go on', async () => {
    const [ada, bob, cleo, dora] = await strangers('ada', 'bob', 'cleo', 'dora');
    const open = await client.createGroup(ada, { name: `outliving ${ada.username}`, open: true });
    const closed = await client.createGroup(ada, { name: `outliving ${bob.username}` });
    for (const one of [bob, cleo, dora]) {
      await client.joinGroup(one, open.id);
      await client.joinGroup(one, closed.id);
      await client.addFriends(one, [ada.user_id]);
    }
    await client.addGroupUsers(ada, closed.id, [bob.user_id]);
    await client.banGroupUsers(ada, open.id, [dora.user_id]);
    await client.addFriends(ada, [bob.user_id]);
    await client.blockFriends(ada, [cleo.user_id]);
    const channel = `3.${open.id}..`;
    const seen = async () => ({
      members: await Promise.all([open, closed].map(({ id }) => client.listGroupUsers(bob, id))),
      banned: await client.listGroupUsers(bob, open.id, 4),
      groups: await Promise.all([ada, bob, cleo, dora].map((one) => client.listUserGroups(one, one.user_id))),
      friends: await Promise.all([ada, bob, cleo, dora].map((one) => client.listFriends(one))),
      notifications: await Promise.all([ada, bob, cleo, dora].map((one) => client.listNotifications(one, 100))),
      history: await wholeHistory(channel, ada),
    });
    const cursors = {
      members: (await client.listGroupUsers(bob, open.id, undefined, 1)).cursor,
      friends: (await client.listFriends(ada, undefined, 1)).cursor,
      notifications: (await client.listNotifications(ada, 1)).cacheable_cursor,
    };
    const before = await seen();
    assert.deepEqual(before.history.map((m) => m.code), [3, 3, 3, 8]);
    await server.kill();
    await server.start();
    assert.deepEqual(await seen(), before);

    const { group_users: rest } = await client.listGroupUsers(bob, open.id, undefined, 10, cursors.members);
    assert.deepEqual(rest, before.members[0].group_users.slice(1));
    assert.deepEqual((await client.listFriends(ada, undefined, 10, cursors.friends)).friends, before.friends[0].friends.slice(1));
    const { notifications } = await client.listNotifications(ada, 100, cursors.notifications);
    assert.deepEqual(notifications, before.notifications[0].notifications.slice(1));
    await refused(client.createGroup(bob, { name: open.name }), 409, 6);

    const [one, two] = [await Listener.connect(ada), await Listener.connect(bob)];
    for (const listener of [one, two]) await listener.socket.joinChat(open.id, GROUP, true, false);
    await client.promoteGroupUsers(ada, open.id, [bob.user_id]);
    const promoted = await two.event(7, bob.user_id);
    assert.ok(promoted.message_id > before.history.at(-1).message_id, 'behind all that was there');
    const out = await Listener.connect(cleo);
    await rejected(out, out.socket.joinChat(ada.user_id, DIRECT, true, false));
    disconnect(one, two, out);
  });
});
