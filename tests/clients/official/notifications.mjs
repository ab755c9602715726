// Notifications that are kept: listed, caught up with, deleted.

import { describe, test } from 'node:test';
import { UNKNOWN, Listener, assert, client, disconnect, moment, people, refused, strangers } from './harness.mjs';

const WANTS = -2;

describe('notifications', () => {
  test('are listed oldest first, and caught up with', async () => {
    const [ada] = await strangers('ada');
    const start = await client.listNotifications(ada, 10);
    assert.deepEqual(start.notifications, []);
    assert.ok(start.cacheable_cursor, 'a cursor, even where there is nothing');
    const senders = await strangers('s1', 's2', 's3', 's4', 's5');
    for (const sender of senders) await client.addFriends(sender, [ada.user_id]);
    const order = senders.map((sender) => sender.user_id);
    const list = async (limit, cursor) => {
      const page = await client.listNotifications(ada, limit, cursor);
      assert.ok(page.cacheable_cursor);
      return [page.notifications.map((n) => n.sender_id), page.cacheable_cursor];
    };
    const [all, end] = await list(100);
    assert.deepEqual(all, order);
    assert.deepEqual((await list(100, start.cacheable_cursor))[0], order, 'the first cursor goes on from the beginning');
    const [first, one] = await list();
    assert.deepEqual(first, order.slice(0, 1), 'one, if nothing is said');
    const [next, three] = await list(2, one);
    assert.deepEqual(next, order.slice(1, 3));
    const [rest, five] = await list(2, three);
    assert.deepEqual(rest, order.slice(3));
    const [nothing, same] = await list(2, five);
    assert.deepEqual(nothing, []);
    assert.deepEqual((await list(100, end))[0], []);

    const [late] = await strangers('late');
    await client.addFriends(late, [ada.user_id]);
    for (const cursor of [five, end, same]) assert.deepEqual((await list(100, cursor))[0], [late.user_id], 'the same cursor again, later');
    assert.deepEqual((await list(2, one))[0], order.slice(1, 3), 'reading changes nothing');

    const [sample] = (await client.listNotifications(ada)).notifications;
    assert.match(sample.id, /^[0-9a-f-]{36}$/);
    assert.deepEqual([sample.code, sample.persistent, sample.content], [WANTS, true, { username: senders[0].username }]);
    assert.equal(sample.subject, `${senders[0].username} wants to add you as a friend`);
    assert.equal(moment(sample.create_time) % 1000, 0, 'in whole seconds');
    await refused(client.listNotifications(ada, 0), 400, 3);
    await refused(client.listNotifications(ada, 101), 400, 3);
    await refused(client.listNotifications(ada, 10, 'forged'), 400, 3);
    await refused(client.listNotifications(late, 10, end), 400, 3);
  });

  test('are deleted by their owner', async () => {
    const [ada, bob, cleo] = await strangers('ada', 'bob', 'cleo');
    for (const one of [bob, cleo]) await client.addFriends(one, [ada.user_id]);
    await client.addFriends(ada, [bob.user_id]);
    const mine = async () => (await client.listNotifications(ada, 10)).notifications.map((n) => n.id);
    const [first, second] = await mine();
    assert.equal(await client.deleteNotifications(bob, [first]), true, 'those of others are passed over');
    assert.equal(await client.deleteNotifications(ada, [UNKNOWN]), true);
    assert.equal(await client.deleteNotifications(ada, []), true);
    await refused(client.deleteNotifications(ada, [first, 'nonsense']), 400, 3);
    assert.deepEqual(await mine(), [first, second]);
    const { cacheable_cursor: cursor } = await client.listNotifications(ada, 1);
    assert.equal(await client.deleteNotifications(ada, [first.toUpperCase(), first]), true);
    assert.deepEqual(await mine(), [second]);
    const after = await client.listNotifications(ada, 10, cursor);
    assert.deepEqual(after.notifications.map((n) => n.id), [second], 'a cursor of a deleted one goes on behind it');
    await client.deleteNotifications(ada, [second]);
    assert.deepEqual(await mine(), []);
    assert.equal((await client.listNotifications(bob, 10)).notifications.length, 1);
  });

  test('come to every open session, and to no others', async () => {
    const [ada, bob] = await people('ada', 'bob');
    const further = await Promise.all(Array.from({ length: 5 }, () => Listener.connect(ada.session)));
    const gone = further.pop();
    gone.disconnect();
    await gone.until(() => gone.closed, 'the end of its socket');
    await client.addFriends(bob.session, [ada.id]);
    const sessions = [ada, ...further];
    const pushed = await Promise.all(sessions.map((session) => session.notified(WANTS, bob.id)));
    const late = await Listener.connect(ada.session);
    await Promise.all([bob, late, ...sessions].map((one) => one.caughtUp()));
    assert.deepEqual(sessions.map((session) => session.notifications.length), sessions.map(() => 1));
    assert.deepEqual([bob, late, gone].map((one) => one.notifications.length), [0, 0, 0]);
    const { notifications: [stored] } = await client.listNotifications(ada.session);
    for (const one of pushed) {
      assert.deepEqual([one.id, one.subject, one.content], [stored.id, stored.subject, stored.content]);
      assert.equal(moment(one.create_time), moment(stored.create_time));
    }
    disconnect(bob, late, ...sessions);
  });
});
