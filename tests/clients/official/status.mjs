// Statuses: who shows which one, who hears of it, and who is online for everybody.

import { describe, test } from 'node:test';
import { GROUP, Listener, UNKNOWN, assert, assertBare, client, disconnect, people, rejected, strangers } from './harness.mjs';

const online = (session) => Listener.connect(session, true);
const statuses = (presences) => (presences ?? []).map((presence) => presence.status);

/** The next event about a user, from its `place`th on: the statuses that come and go. */
async function event(listener, userId, place) {
  const about = (event) => [...(event.joins ?? []), ...(event.leaves ?? [])].some((p) => p.user_id === userId);
  const found = await listener.until(() => listener.statuses.filter(about)[place], `status event ${place} of ${userId}`);
  return [statuses(found.joins), statuses(found.leaves)];
}

async function isOnline(asker, userId) {
  const { users: [user] } = await client.getUsers(asker, [userId]);
  return user.online ?? false;
}

describe('statuses', () => {
  test('are shown to followers, and to oneself', async () => {
    const [bob] = await people('bob');
    const [session] = await strangers('ada');
    assert.deepEqual((await bob.socket.followUsers([session.user_id])).presences ?? [], []);
    const ada = await online(session);
    assert.deepEqual(await event(ada, ada.id, 0), [[''], []], 'one\'s own first thing');
    assert.deepEqual(await event(bob, ada.id, 0), [[''], []]);
    const [presence] = bob.statuses[0].joins;
    assert.deepEqual([presence.user_id, presence.username], [ada.id, ada.name]);
    assert.match(presence.session_id, /^[0-9a-f-]{36}$/);

    assertBare(await ada.socket.updateStatus('writing'));
    for (const one of [ada, bob]) assert.deepEqual(await event(one, ada.id, 1), [['writing'], ['']]);
    await ada.socket.updateStatus('');
    for (const one of [ada, bob]) assert.deepEqual(await event(one, ada.id, 2), [[''], ['writing']]);
    await ada.socket.updateStatus();
    for (const one of [ada, bob]) assert.deepEqual(await event(one, ada.id, 3), [[], ['']]);
    await ada.socket.updateStatus('back');
    for (const one of [ada, bob]) assert.deepEqual(await event(one, ada.id, 4), [['back'], []]);
    disconnect(ada);
    assert.deepEqual(await event(bob, ada.id, 5), [[], ['back']]);
    assert.equal(bob.statuses.length, 6);
    disconnect(bob);
  });

  test('are told to whoever begins to follow', async () => {
    const [ada, bob, cleo, watcher] = await strangers('ada', 'bob', 'cleo', 'watcher');
    const sessions = [await online(ada), await online(ada), await online(bob)];
    await sessions[0].socket.updateStatus('one');
    await sessions[1].socket.updateStatus('two');
    await sessions[2].socket.updateStatus('three');
    const follower = await Listener.connect(watcher);
    const { presences } = await follower.socket.followUsers([ada.user_id, cleo.user_id, UNKNOWN, watcher.user_id]);
    assert.deepEqual(statuses(presences).toSorted(), ['one', 'two']);
    assert.equal(new Set(presences.map((p) => p.session_id)).size, 2);
    const byName = await follower.socket.send({ status_follow: { usernames: [bob.username, 'nobody of this name'] } });
    assert.deepEqual(byName.status.presences.map((p) => [p.user_id, p.status]), [[bob.user_id, 'three']]);

    await sessions[2].socket.updateStatus('four');
    assert.deepEqual(await event(follower, bob.user_id, 0), [['four'], ['three']]);
    assertBare(await follower.socket.unfollowUsers([bob.user_id, UNKNOWN]));
    await sessions[2].socket.updateStatus('unseen');
    await sessions[0].socket.updateStatus('seen');
    assert.deepEqual(await event(follower, ada.user_id, 0), [['seen'], ['one']]);
    await follower.caughtUp();
    assert.equal(follower.statuses.length, 2);
    disconnect(follower, ...sessions);
  });

  test('of one\'s other sessions are heard without following', async () => {
    const [ada] = await strangers('ada');
    const one = await online(ada);
    await event(one, ada.user_id, 0);
    const two = await online(ada);
    assert.deepEqual(await event(one, ada.user_id, 1), [[''], []]);
    const unseen = await Listener.connect(ada);
    await two.socket.updateStatus('two');
    assert.deepEqual(await event(one, ada.user_id, 2), [['two'], ['']]);
    // One shard tells of an opening before another one does, so a session may open where it is still to be told.
    const first = await event(unseen, ada.user_id, 0);
    const late = first[1].length === 0 ? 1 : 0;
    if (late) assert.deepEqual(first, [[''], []]);
    assert.deepEqual(await event(unseen, ada.user_id, late), [['two'], ['']]);
    await unseen.caughtUp();
    assert.equal(unseen.statuses.length, 1 + late);
    disconnect(one, two, unseen);
  });

  test('are not followed by whom one blocks', async () => {
    const [session, blocked] = await strangers('ada', 'bob');
    const ada = await online(session);
    const bob = await Listener.connect(blocked);
    const follows = async () => statuses((await bob.socket.followUsers([session.user_id])).presences);
    assert.deepEqual(await follows(), ['']);
    await client.blockFriends(session, [blocked.user_id]);
    await ada.socket.updateStatus('not for him');
    assert.deepEqual(await follows(), [], 'as if there were nobody');
    await ada.socket.updateStatus('nor this');
    await client.deleteFriends(session, [blocked.user_id]);
    await ada.socket.updateStatus('unblocked');
    await bob.caughtUp();
    assert.deepEqual(bob.statuses, [], 'nothing is told, and nothing comes back');
    assert.deepEqual(await follows(), ['unblocked']);
    await ada.socket.updateStatus('followed anew');
    assert.deepEqual(await event(bob, session.user_id, 0), [['followed anew'], ['unblocked']]);
    disconnect(ada, bob);
  });

  test('what is refused', async () => {
    const [ada] = await people('ada');
    await rejected(ada, ada.socket.updateStatus('x'.repeat(2049)));
    await rejected(ada, ada.socket.updateStatus('ü'.repeat(1025)));
    await rejected(ada, ada.socket.followUsers(['nonsense']));
    await rejected(ada, ada.socket.send({ status_follow: { usernames: [''] } }));
    await ada.caughtUp();
    assert.deepEqual(ada.statuses, []);
    assertBare(await ada.socket.updateStatus('ü'.repeat(1024)));
    assert.deepEqual(await event(ada, ada.id, 0), [['ü'.repeat(1024)], []]);
    disconnect(ada);
  });

  test('make one online, wherever users are listed', async () => {
    const [session, friend] = await strangers('ada', 'friend');
    await client.addFriends(session, [friend.user_id]);
    const { id } = await client.createGroup(friend, { name: `online ${friend.username}`, open: true });
    await client.joinGroup(session, id);
    const seen = async () => {
      const { friends: [{ user }] } = await client.listFriends(friend);
      const { group_users: members } = await client.listGroupUsers(friend, id, 2);
      const { user: own } = await client.getAccount(session);
      const all = [user.online, members[0].user.online, await isOnline(friend, session.user_id), own.online].map((one) => one ?? false);
      assert.equal(new Set(all).size, 1, 'all say the same');
      return all[0];
    };
    /** Every shard learns of it in its own time. */
    const becomes = async (expected) => {
      for (let tries = 0; tries < 500; tries += 1) {
        if (await isOnline(friend, session.user_id) === expected) return assert.equal(await seen(), expected);
      }
      return assert.fail(`never ${expected ? 'online' : 'offline'}`);
    };
    await becomes(false);
    const ada = await Listener.connect(session);
    await ada.socket.joinChat(id, GROUP, true, false);
    await becomes(false);
    const second = await online(session);
    await becomes(true);
    await ada.socket.updateStatus('here');
    disconnect(second);
    await ada.until(() => ada.statuses.some((event) => statuses(event.leaves).includes('')), 'the leave of the other');
    await becomes(true);
    await ada.socket.updateStatus();
    await becomes(false);
    await ada.socket.updateStatus('again');
    await becomes(true);
    disconnect(ada);
    await becomes(false);
  });
});
