// Friends, invitations and blocks: both sides of every act, and who is told.

import { describe, test } from 'node:test';
import { NIL, UNKNOWN, assert, client, disconnect, moment, people, refused, server, strangers, wholeListing } from './harness.mjs';

const [FRIEND, SENT, RECEIVED, BLOCKED] = [0, 1, 2, 3];
const [WANTS, ACCEPTED, REMOVED] = [-2, -3, -9];

const add = (one, other) => client.addFriends(one.session, [other.id]);
const remove = (one, other) => client.deleteFriends(one.session, [other.id]);
const block = (one, other) => client.blockFriends(one.session, [other.id]);

/** How one stands to the other, from each side. */
async function sides(one, other) {
  const state = async (own, id) => {
    const { friends } = await client.listFriends(own.session, undefined, 100);
    assert.ok(friends.filter((friend) => friend.user.id === id).length <= 1);
    return friends.find((friend) => friend.user.id === id)?.state;
  };
  return [await state(one, other.id), await state(other, one.id)];
}

/** The codes that somebody was notified of, by pushes; the stored ones must be the same. */
async function told(one) {
  await one.caughtUp();
  const { notifications } = await client.listNotifications(one.session, 100);
  assert.deepEqual(notifications.map((n) => n.id), one.notifications.map((n) => n.id));
  return one.notifications.map((n) => n.code);
}

describe('friends', () => {
  test('ask and accept', async () => {
    const [ada, bob] = await people('ada', 'bob');
    assert.equal(await add(ada, bob), true);
    assert.deepEqual(await sides(ada, bob), [SENT, RECEIVED]);
    const asked = await bob.notified(WANTS, ada.id);
    assert.equal(asked.subject, `${ada.name} wants to add you as a friend`);
    assert.deepEqual(asked.content, { username: ada.name });
    assert.equal(asked.persistent, true);
    await add(ada, bob);
    assert.deepEqual(await sides(ada, bob), [SENT, RECEIVED], 'asking again changes nothing');

    assert.equal(await client.addFriends(bob.session, [], [ada.name]), true);
    assert.deepEqual(await sides(ada, bob), [FRIEND, FRIEND]);
    const accepted = await ada.notified(ACCEPTED, bob.id);
    assert.equal(accepted.subject, `${bob.name} accepted your friend request`);
    assert.deepEqual(accepted.content, { username: bob.name });
    for (const [one, other] of [[ada, bob], [bob, ada]]) await add(one, other);
    assert.deepEqual(await sides(ada, bob), [FRIEND, FRIEND]);
    assert.deepEqual([await told(ada), await told(bob)], [[ACCEPTED], [WANTS]]);
    const users = (await client.getUsers(ada.session, [ada.id, bob.id])).users;
    assert.deepEqual(users.map((user) => user.edge_count), [1, 1], 'one friend each');

    await remove(bob, ada);
    assert.deepEqual(await sides(ada, bob), [undefined, undefined]);
    const removed = await ada.notified(REMOVED, bob.id);
    assert.equal(removed.subject, `${bob.name} removed you as a friend`);
    assert.deepEqual(removed.content, { username: bob.name });
    await remove(ada, bob);
    assert.deepEqual([await told(ada), await told(bob)], [[ACCEPTED, REMOVED], [WANTS]]);
    disconnect(ada, bob);
  });

  test('take back or reject an invitation', async () => {
    const [ada, bob] = await people('ada', 'bob');
    await add(ada, bob);
    await remove(ada, bob);
    assert.deepEqual(await sides(ada, bob), [undefined, undefined]);
    await add(ada, bob);
    await remove(bob, ada);
    assert.deepEqual(await sides(ada, bob), [undefined, undefined]);
    // What is repeated within a minute is told once.
    assert.deepEqual([await told(ada), await told(bob)], [[REMOVED], [WANTS, REMOVED]]);
    disconnect(ada, bob);
  });

  test('who ask each other at once are friends', async () => {
    const [ada, bob] = await people('ada', 'bob');
    await Promise.all([add(ada, bob), add(bob, ada)]);
    assert.deepEqual(await sides(ada, bob), [FRIEND, FRIEND]);
    assert.deepEqual([await told(ada), await told(bob)].toSorted(), [[WANTS], [ACCEPTED]].toSorted());
    disconnect(ada, bob);
  });

  test('several at once, by id and by name', async () => {
    const [ada] = await strangers('ada');
    const others = await strangers('one', 'two', 'three');
    const [one, two, three] = others;
    await client.addFriends(ada, [one.user_id, UNKNOWN, one.user_id.toUpperCase()], [two.username, three.username, one.username]);
    const { friends } = await client.listFriends(ada, SENT, 100);
    assert.deepEqual(friends.map((f) => f.user.id).toSorted(), others.map((other) => other.user_id).toSorted());
    for (const other of others) assert.equal((await client.listNotifications(other, 10)).notifications.length, 1, 'each once');
  });

  test('each notes something of the other', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    // This version of the client has no argument for it; others have.
    const add = async (one, other, metadata) => {
      const query = new URLSearchParams({ ids: other.user_id, metadata });
      const headers = { authorization: `Bearer ${one.token}` };
      const answer = await fetch(`${server.origin}/v2/friend?${query}`, { method: 'POST', headers });
      return answer.status;
    };
    const noted = async (one) => (await client.apiClient.listFriends(one.token, 10)).friends.map((friend) => JSON.parse(friend.metadata));
    assert.equal(await add(ada, bob, '{"met":"in the Ümit"}'), 200);
    assert.deepEqual([await noted(ada), await noted(bob)], [[{ met: 'in the Ümit' }], [{}]]);
    assert.equal(await add(bob, ada, '{"list":[1,2]}'), 200);
    await client.addFriends(ada, [bob.user_id]);
    assert.deepEqual([await noted(ada), await noted(bob)], [[{ met: 'in the Ümit' }], [{ list: [1, 2] }]]);
    await client.blockFriends(bob, [ada.user_id]);
    assert.deepEqual(await noted(bob), [{ list: [1, 2] }], 'kept with the block');
    await client.deleteFriends(bob, [ada.user_id]);
    assert.equal(await add(bob, ada, '[]'), 400);
    assert.equal(await add(bob, ada, '{}'), 200);
    assert.deepEqual(await noted(bob), [{}]);
  });

  test('what is refused', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const calls = { add: client.addFriends, delete: client.deleteFriends, block: client.blockFriends };
    for (const [name, call] of Object.entries(calls)) {
      const ask = call.bind(client, ada);
      await refused(ask([ada.user_id]), 400, 3);
      await refused(ask([], [ada.username]), 400, 3);
      await refused(ask([bob.user_id, ada.user_id]), 400, 3);
      await refused(ask(['nonsense', bob.user_id]), 400, 3);
      await refused(ask([], [bob.username, '']), 400, 3);
      assert.equal(await ask([], []), true, 'nobody is nothing to do');
      assert.equal(await ask([UNKNOWN]), true, 'those who do not exist are passed over');
      await refused(ask([UNKNOWN, NIL]), 400, 3);
      if (name === 'delete') assert.equal(await ask([], [`nobody like ${ada.username}`]), true);
      else await refused(ask([], [`nobody like ${ada.username}`]), 400, 3);
    }
    assert.deepEqual((await client.listFriends(ada)).friends, [], 'nothing has come of it');
    assert.deepEqual((await client.listNotifications(bob, 10)).notifications, []);
  });
});

describe('blocking', () => {
  test('ends what there was, and is not told', async () => {
    for (const before of ['nothing', 'sent', 'received', 'friends']) {
      const [ada, bob] = await people('ada', 'bob');
      if (before === 'sent' || before === 'friends') await add(ada, bob);
      if (before === 'received' || before === 'friends') await add(bob, ada);
      const known = [await told(ada), await told(bob)];
      assert.equal(await block(ada, bob), true);
      assert.deepEqual(await sides(ada, bob), [BLOCKED, undefined], before);
      await add(ada, bob);
      await add(bob, ada);
      await remove(bob, ada);
      await block(ada, bob);
      assert.deepEqual(await sides(ada, bob), [BLOCKED, undefined], before);
      assert.deepEqual([await told(ada), await told(bob)], known, before);
      await remove(ada, bob);
      assert.deepEqual(await sides(ada, bob), [undefined, undefined], before);
      assert.deepEqual([await told(ada), await told(bob)], known, before);
      await add(bob, ada);
      assert.deepEqual(await sides(ada, bob), [RECEIVED, SENT], 'unblocked');
      disconnect(ada, bob);
    }
  });

  test('can be mutual', async () => {
    const [ada, bob] = await people('ada', 'bob');
    await block(ada, bob);
    await block(bob, ada);
    assert.deepEqual(await sides(ada, bob), [BLOCKED, BLOCKED]);
    await remove(ada, bob);
    assert.deepEqual(await sides(ada, bob), [undefined, BLOCKED], 'each lifts but one\'s own');
    await add(ada, bob);
    assert.deepEqual(await sides(ada, bob), [undefined, BLOCKED]);
    assert.deepEqual([await told(ada), await told(bob)], [[], []]);
    disconnect(ada, bob);
  });
});

describe('listings of friends', () => {
  test('by state, then by time, page by page', async () => {
    const [ada] = await strangers('ada');
    const others = await strangers('f1', 'f2', 's1', 's2', 'r1', 'r2', 'b1', 'b2');
    const [f1, f2, s1, s2, r1, r2, b1, b2] = others;
    // Sent or received first what is accepted last: the order is that of entering the state.
    for (const one of [s1, f1, s2]) await client.addFriends(ada, [one.user_id]);
    for (const one of [r1, f2, r2]) await client.addFriends(one, [ada.user_id]);
    for (const one of [b1, b2]) await client.blockFriends(ada, [one.user_id]);
    await client.addFriends(f1, [ada.user_id]);
    await client.addFriends(ada, [f2.user_id]);
    const order = others.map((other) => other.user_id);
    for (const limit of [1, 3, 8, 1000]) {
      const all = await wholeListing((size, cursor) => client.listFriends(ada, undefined, size, cursor), 'friends', limit);
      assert.deepEqual(all.map((f) => f.user.id), order, `${limit} a page`);
      assert.deepEqual(all.map((f) => f.state), [0, 0, 1, 1, 2, 2, 3, 3]);
    }
    const whole = await client.listFriends(ada);
    assert.deepEqual([whole.friends.length, whole.cursor], [8, undefined], 'a thousand, if nothing is said');
    for (const [state, expected] of [[FRIEND, [f1, f2]], [SENT, [s1, s2]], [RECEIVED, [r1, r2]], [BLOCKED, [b1, b2]]]) {
      const all = await wholeListing((size, cursor) => client.listFriends(ada, state, size, cursor), 'friends', 1);
      assert.deepEqual(all.map((f) => f.user.id), expected.map((other) => other.user_id), `state ${state}`);
    }
    const { friends: [raw] } = await client.apiClient.listFriends(ada.token, 1, FRIEND);
    assert.equal(raw.metadata, '{}');
    assert.equal(moment(raw.update_time) % 1000, 0, 'in whole seconds');
    assert.deepEqual([raw.user.username, raw.user.lang_tag, raw.user.edge_count], [f1.username, 'en', 1]);

    const { cursor } = await client.listFriends(ada, undefined, 2);
    await refused(client.listFriends(ada, SENT, 2, cursor), 400, 3);
    await refused(client.listFriends(f1, undefined, 2, cursor), 400, 3);
    await refused(client.listFriends(ada, undefined, 2, 'forged'), 400, 3);
    await refused(client.listFriends(ada, 4, 2), 400, 3);
    await refused(client.listFriends(ada, undefined, 1001), 400, 3);
    await refused(client.listFriends(ada, undefined, 0), 400, 3);
  });
});
