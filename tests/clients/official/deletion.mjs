// The end of an account: everything that its user was and said goes with it.

import { describe, test } from 'node:test';
import { Session } from '@heroiclabs/nakama-js';
import {
  DIRECT, GROUP, Listener, ROOM, assert, client, disconnect, newClient, newSocket, people, refused, rejected, signIn, strangers,
  wholeHistory,
} from './harness.mjs';

describe('a deleted account', () => {
  test('takes along what was said, everywhere', async () => {
    const [ada, bob] = await people('ada', 'bob');
    const made = await client.createGroup(bob.session, { name: `farewell ${ada.name}`, open: true });
    await client.joinGroup(ada.session, made.id);
    const targets = [[`farewell ${ada.name}`, ROOM], [made.id, GROUP]];
    const channels = [];
    for (const [target, type] of targets) {
      channels.push((await ada.socket.joinChat(target, type, true, false)).id);
      await bob.socket.joinChat(target, type, true, false);
    }
    channels.push((await ada.socket.joinChat(bob.id, DIRECT, true, false)).id);
    await bob.socket.joinChat(ada.id, DIRECT, true, false);
    const alone = (await ada.socket.joinChat(`alone ${ada.name}`, ROOM, true, false)).id;
    // More than a page, and more than an owner keeps in memory.
    for (const id of [...channels, alone]) {
      const count = id === alone ? 300 : 30;
      const sends = Array.from({ length: count }, (_, n) => (n % 10 === 9 && id !== alone ? bob : ada).socket.writeChatMessage(id, { n }));
      await Promise.all(sends);
    }
    for (const id of channels) assert.equal((await client.listChannelMessages(bob.session, id, 100, false)).messages.filter((m) => m.code === 0).length, 30);
    assert.equal((await wholeHistory(alone, bob.session)).length, 300);

    assert.equal(await client.deleteAccount(ada.session), true);
    await ada.until(() => ada.closed, 'the end of her socket');
    assert.equal(ada.closed.code, 1000);
    for (const id of channels) {
      const forward = await wholeHistory(id, bob.session);
      const { messages: backward } = await client.listChannelMessages(bob.session, id, 100, false);
      assert.deepEqual(backward.map((m) => m.message_id), forward.map((m) => m.message_id).toReversed());
      assert.deepEqual(forward.filter((m) => m.sender_id === ada.id), [], id);
      assert.equal(forward.filter((m) => m.code === 0).length, 3, 'what others said stays');
    }
    assert.deepEqual(await wholeHistory(alone, bob.session), []);
    const left = bob.presences.flatMap((event) => event.leaves ?? []).filter((p) => p.user_id === ada.id);
    assert.equal(left.length, 3, 'the others see her leave');
    disconnect(bob);
  });

  test('ends its sessions and tokens, and sets its names free', async () => {
    const [session, other] = await strangers('ada', 'bob');
    await client.linkDevice(session, { id: `device-of-${session.username}` });
    await client.linkEmail(session, { email: `${session.username}@example.org`, password: 'long enough' });
    const sockets = await Promise.all([false, true, false].map((online) => Listener.connect(session, online)));
    assert.equal(await client.deleteAccount(session), true);
    for (const one of sockets) {
      const { code, reason } = await one.until(() => one.closed, 'the end of a socket');
      assert.equal(code, 1000);
      assert.ok(reason.length > 0, 'and the reason is said');
    }
    const manual = newClient('defaultkey', false);
    await refused(manual.getAccount(session), 401, 16);
    await refused(manual.sessionRefresh(Session.restore(session.token, session.refresh_token)), 401, 16);
    await refused(manual.deleteAccount(session), 401, 16);
    await assert.rejects(newSocket().connect(session, false).catch(() => { throw new Error('refused'); }), /refused/);
    assert.deepEqual((await client.getUsers(other, [session.user_id], [session.username])).users, []);
    await refused(client.authenticateDevice(`device-of-${session.username}`, false), 404, 5);
    await refused(client.authenticateEmail(`${session.username}@example.org`, 'long enough', false), 404, 5);

    const again = await signIn(session.username);
    assert.equal(again.created, true);
    assert.notEqual(again.user_id, session.user_id);
    assert.equal(again.username, session.username, 'the name is free');
    assert.equal((await client.getAccount(again)).user.id, again.user_id);
    assert.deepEqual((await client.listUserGroups(again, again.user_id)).user_groups, []);
  });

  test('leaves its friends and blocks on both sides, and its notifications', async () => {
    const [ada, friend, asked, asker, blocked, blocker] = await strangers('ada', 'friend', 'asked', 'asker', 'blocked', 'blocker');
    for (const one of [friend, asked]) await client.addFriends(ada, [one.user_id]);
    for (const one of [friend, asker]) await client.addFriends(one, [ada.user_id]);
    await client.blockFriends(ada, [blocked.user_id]);
    await client.blockFriends(blocker, [ada.user_id]);
    assert.equal(await client.deleteAccount(ada), true);
    for (const one of [friend, asked, asker, blocked, blocker]) {
      assert.deepEqual((await client.listFriends(one)).friends, []);
      assert.equal((await client.getAccount(one)).user.edge_count ?? 0, 0);
      assert.equal(await client.addFriends(one, [ada.user_id]), true, 'nobody');
    }
    const again = await signIn(ada.username);
    assert.deepEqual((await client.listNotifications(again, 10)).notifications, []);
    assert.deepEqual((await client.listFriends(again)).friends, []);
  });

  test('leaves its groups, and hands on those it was the last to lead', async () => {
    const [ada, bob, cleo, dora] = await people('ada', 'bob', 'cleo', 'dora');
    const make = (founder, name, fields = {}) => client.createGroup(founder.session, { name: `${name} of ${ada.name}`, open: true, ...fields });
    const [led, joined, own, closed, banned] = [
      await make(ada, 'led'), await make(bob, 'joined'), await make(ada, 'own'), await make(bob, 'closed', { open: false }), await make(bob, 'banned'),
    ];
    for (const one of [bob, cleo, dora]) await client.joinGroup(one.session, led.id);
    await client.promoteGroupUsers(ada.session, led.id, [cleo.id]);
    for (const { id } of [joined, closed, banned]) await client.joinGroup(ada.session, id);
    await client.banGroupUsers(bob.session, banned.id, [ada.id]);
    const [{ id: chat }] = await Promise.all([bob, dora].map((one) => one.socket.joinChat(led.id, GROUP, true, false)));
    await ada.socket.joinChat(led.id, GROUP, true, false);

    assert.equal(await client.deleteAccount(ada.session), true);
    const states = async ({ id }, state) => {
      const { group_users: members } = await client.listGroupUsers(bob.session, id, state);
      return members.map((member) => [member.user.id, member.state]);
    };
    assert.deepEqual(await states(led), [[cleo.id, 0], [bob.id, 2], [dora.id, 2]], 'the next in rank and time leads');
    assert.deepEqual(await states(joined), [[bob.id, 0]]);
    assert.deepEqual(await states(closed, 3), []);
    assert.deepEqual(await states(banned, 4), []);
    const seats = (await client.listUserGroups(bob.session, bob.id)).user_groups.map((g) => [g.group.id, g.group.edge_count]);
    assert.deepEqual(new Map(seats), new Map([[led.id, 3], [joined.id, 1], [closed.id, 1], [banned.id, 1]]));
    for (const one of [bob, dora]) await one.event(7, cleo.id);
    assert.equal((await client.createGroup(bob.session, { name: own.name })).name, own.name, 'a group of nobody else is gone');
    assert.ok((await bob.socket.writeChatMessage(chat, { we: 'go on' })).message_id);
    await refused(client.listChannelMessages(bob.session, `3.${own.id}..`, 10), 400, 3);
    await rejected(bob, bob.socket.joinChat(own.id, GROUP, true, false));
    disconnect(bob, cleo, dora);
  });
});
