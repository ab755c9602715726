// Direct chat: one channel for two, the request to chat, and blocks.

import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import {
  DIRECT, Listener, NIL, ROOM, UNKNOWN, assert, assertBare, client, disconnect, moment, people, refused, rejected, strangers,
  wholeHistory,
} from './harness.mjs';

const REQUEST = -1;

/** Within this time after a request to chat, the same user sends the other no second one. */
const REQUEST_INTERVAL = 10_000;

const chat = (listener, other, hidden = false) => listener.socket.joinChat(other.id, DIRECT, true, hidden);

/** The id of the channel of two users, as the protocol makes it. */
function channelOf(one, two) {
  const [first, second] = [one.id, two.id].sort();
  return { id: `4.${first}.${second}.`, first, second };
}

describe('direct chat', () => {
  test('both come into the same channel and hear each other', async () => {
    const [alice, bob] = await people('alice', 'bob');
    const { id, first, second } = channelOf(alice, bob);
    const hers = await chat(alice, bob);
    assert.equal(hers.id, id);
    assert.deepEqual([hers.user_id_one, hers.user_id_two], [first, second]);
    assert.equal(hers.self.user_id, alice.id);
    assert.deepEqual(hers.presences ?? [], []);
    const own = await alice.joined(hers.self.session_id);
    assert.deepEqual([own.channel_id, own.user_id_one, own.user_id_two], [id, first, second]);
    const his = await chat(bob, alice);
    assert.equal(his.id, id);
    assert.deepEqual(his.presences.map((p) => p.session_id), [hers.self.session_id]);
    const came = await alice.joined(his.self.session_id);
    assert.equal(came.joins[0].username, bob.name);

    const ack = await alice.socket.writeChatMessage(id, { text: 'hello' });
    assert.deepEqual([ack.channel_id, ack.code, ack.username, ack.persistent], [id, 0, alice.name, true]);
    assert.deepEqual([ack.user_id_one, ack.user_id_two], [first, second]);
    for (const message of [await alice.message(ack.message_id), await bob.message(ack.message_id)]) {
      assert.deepEqual([message.channel_id, message.sender_id, message.username], [id, alice.id, alice.name]);
      assert.deepEqual([message.user_id_one, message.user_id_two, message.content.text], [first, second, 'hello']);
    }
    const answer = await bob.socket.writeChatMessage(id, { text: 'hi' });
    await alice.message(answer.message_id);
    await alice.socket.updateChatMessage(id, ack.message_id, { text: 'hello!' });
    assert.deepEqual((await bob.message(ack.message_id, 1)).content, { text: 'hello!' });
    await rejected(bob, bob.socket.removeChatMessage(id, ack.message_id));
    await bob.socket.removeChatMessage(id, answer.message_id);
    await alice.message(answer.message_id, 2);
    const kept = await wholeHistory(id, bob.session);
    assert.deepEqual(kept.map((m) => [m.message_id, m.content.text]), [[ack.message_id, 'hello!']]);
    assert.deepEqual([kept[0].user_id_one, kept[0].user_id_two], [first, second]);

    assertBare(await bob.socket.leaveChat(id));
    const left = await alice.left(his.self.session_id);
    assert.deepEqual([left.channel_id, left.user_id_one, left.user_id_two], [id, first, second]);
    await rejected(bob, bob.socket.writeChatMessage(id, { too: 'late' }));
    disconnect(alice, bob);
  });

  test('whoever is not there is asked to come, on every session', async () => {
    const [alice, bob] = await people('alice', 'bob');
    const bobs = [bob, await Listener.connect(bob.session)];
    await chat(alice, bob);
    for (const session of bobs) {
      const asked = await session.notified(REQUEST, alice.id);
      assert.equal(asked.subject, `${alice.name} wants to chat`);
      assert.deepEqual(asked.content, { username: alice.name });
      assert.equal(asked.persistent, true);
      assert.match(asked.id, /^[0-9a-f-]{36}$/);
      assert.equal(moment(asked.create_time) % 1000, 0, 'in whole seconds');
    }
    await chat(alice, bob);
    await chat(alice, bob, true);
    await Promise.all([alice, ...bobs].map((session) => session.caughtUp()));
    assert.deepEqual(bobs.map((session) => session.count(REQUEST)), [1, 1], 'a re-join asks nobody');

    const { id } = channelOf(alice, bob);
    await alice.socket.leaveChat(id);
    await chat(alice, bob);
    await Promise.all([alice, ...bobs].map((session) => session.caughtUp()));
    assert.deepEqual(bobs.map((session) => session.count(REQUEST)), [1, 1], 'who was just asked is not asked again');
    await alice.socket.leaveChat(id);
    await pause(REQUEST_INTERVAL + 500);
    await chat(alice, bob);
    await Promise.all(bobs.map((session) => session.until(() => session.count(REQUEST) === 2, 'asked again')));
    assert.equal(alice.count(REQUEST), 0);
    const stored = await client.listNotifications(bob.session, 10);
    assert.deepEqual(stored.notifications.map((n) => [n.code, n.sender_id]), [[REQUEST, alice.id], [REQUEST, alice.id]]);
    assert.deepEqual(stored.notifications.map((n) => n.id), bob.notifications.map((n) => n.id), 'as they were pushed');

    // On one session he is there; that suffices.
    await chat(bobs[1], alice);
    await alice.socket.leaveChat(id);
    await pause(REQUEST_INTERVAL + 500);
    await chat(alice, bob);
    await Promise.all([alice, ...bobs].map((session) => session.caughtUp()));
    assert.deepEqual([alice, ...bobs].map((session) => session.count(REQUEST)), [0, 2, 2]);
    assert.deepEqual((await client.listNotifications(alice.session, 10)).notifications, []);
    disconnect(alice, ...bobs);
  });

  test('the hidden are not there, and ask all the same', async () => {
    const [alice, bob] = await people('alice', 'bob');
    const hidden = await chat(bob, alice, true);
    await alice.notified(REQUEST, bob.id);
    const { presences } = await chat(alice, bob);
    assert.deepEqual(presences ?? [], []);
    await bob.notified(REQUEST, alice.id);
    const ack = await alice.socket.writeChatMessage(hidden.id, { to: 'nobody to be seen' });
    await bob.message(ack.message_id);
    disconnect(alice, bob);
  });

  test('a person alone writes, and the other finds it', async () => {
    const [alice, bob, carol] = await people('alice', 'bob', 'carol');
    const { id } = await chat(alice, bob);
    const ack = await alice.socket.writeChatMessage(id, { are: 'you there?' });
    await alice.message(ack.message_id);
    await bob.caughtUp();
    assert.deepEqual(bob.messages, [], 'nothing is heard where one has not joined');
    for (const session of [alice.session, bob.session]) {
      const kept = await wholeHistory(id, session);
      assert.deepEqual(kept.map((m) => m.message_id), [ack.message_id]);
    }
    await refused(client.listChannelMessages(carol.session, id, 10), 400, 3);
    await rejected(carol, carol.socket.writeChatMessage(id, { not: 'mine' }));
    disconnect(alice, bob, carol);
  });

  test('several sessions of both', async () => {
    const [alice, bob] = await people('alice', 'bob');
    const all = [alice, bob, ...await Promise.all([alice, bob, alice].map((one) => Listener.connect(one.session)))];
    const channels = await Promise.all(all.map((one) => chat(one, one.id === alice.id ? bob : alice)));
    const { id } = channelOf(alice, bob);
    assert.deepEqual(channels.map((channel) => channel.id), all.map(() => id));
    const sent = await Promise.all(all.map((one, n) => one.socket.writeChatMessage(id, { n })));
    await Promise.all(all.map((one) => one.until(() => one.messages.length === all.length, 'all messages')));
    const order = all[0].messages.map((m) => m.message_id);
    for (const one of all) assert.deepEqual(one.messages.map((m) => m.message_id), order);
    assert.deepEqual(order.toSorted(), sent.map((ack) => ack.message_id).toSorted());
    assert.deepEqual((await wholeHistory(id, bob.session)).map((m) => m.message_id), order);
    disconnect(...all);
  });

  test('with oneself', async () => {
    const [alice] = await people('alice');
    const { id, user_id_one, user_id_two } = await chat(alice, alice);
    assert.equal(id, `4.${alice.id}.${alice.id}.`);
    assert.deepEqual([user_id_one, user_id_two], [alice.id, alice.id]);
    const ack = await alice.socket.writeChatMessage(id, { note: 'to self' });
    await alice.message(ack.message_id);
    await alice.caughtUp();
    assert.equal(alice.count(REQUEST), 0);
    disconnect(alice);
  });

  test('who cannot be written to', async () => {
    const [alice, bob] = await people('alice', 'bob');
    for (const target of ['', 'bob', NIL, UNKNOWN, `${bob.id}x`]) {
      await rejected(alice, alice.socket.joinChat(target, DIRECT, true, false));
    }
    const upper = await alice.socket.joinChat(bob.id.toUpperCase(), DIRECT, true, false);
    assert.equal(upper.id, channelOf(alice, bob).id, 'ids are normalised');
    disconnect(alice, bob);
  });
});

describe('blocks', () => {
  test('end the chat of two at once and in silence', async () => {
    const [alice, bob] = await people('alice', 'bob');
    const alices = [alice, await Listener.connect(alice.session)];
    const { id } = await chat(bob, alice);
    const room = await bob.socket.joinChat(`with ${alice.name}`, ROOM, true, false);
    for (const one of alices) {
      await chat(one, bob);
      await one.socket.joinChat(`with ${alice.name}`, ROOM, true, false);
    }
    const hidden = await Listener.connect(bob.session);
    await chat(hidden, alice, true);
    const said = await alice.socket.writeChatMessage(id, { before: 'the block' });
    await hidden.message(said.message_id);
    const asked = alices.map((one) => one.count(REQUEST));

    assert.equal(await client.blockFriends(bob.session, [alice.id]), true);
    for (const one of [...alices, bob, hidden]) await rejected(one, one.socket.writeChatMessage(id, { after: 'the block' }));
    for (const one of [...alices, bob, hidden]) await one.caughtUp();
    for (const one of [...alices, bob, hidden]) assert.deepEqual(one.gone, [], 'nobody is told of a leave');
    // To her, he is nobody.
    const [hers, nobodys] = await Promise.all([chat(alice, bob), alice.socket.joinChat(UNKNOWN, DIRECT, true, false)]
      .map((join) => join.then(() => assert.fail('joined'), (error) => error)));
    assert.deepEqual(hers, nobodys);

    for (const session of [alice.session, bob.session]) {
      assert.deepEqual((await wholeHistory(id, session)).map((m) => m.message_id), [said.message_id], 'history stays');
    }
    const elsewhere = await alice.socket.writeChatMessage(room.id, { rooms: 'stay' });
    await bob.message(elsewhere.message_id);

    // He may still come, and she is not bothered with it.
    assert.deepEqual((await chat(bob, alice)).presences ?? [], []);
    await bob.socket.writeChatMessage(id, { said: 'alone' });
    await Promise.all(alices.map((one) => one.caughtUp()));
    assert.deepEqual(alices.map((one) => one.count(REQUEST)), asked);
    disconnect(...alices, bob, hidden);
  });

  test('are lifted by deleting them', async () => {
    const [alice, bob] = await people('alice', 'bob');
    await client.blockFriends(bob.session, [alice.id]);
    await rejected(alice, chat(alice, bob));
    assert.equal(bob.count(REQUEST), 0);
    await client.deleteFriends(bob.session, [alice.id]);
    const { id } = await chat(alice, bob);
    await bob.notified(REQUEST, alice.id);
    await chat(bob, alice);
    const ack = await alice.socket.writeChatMessage(id, { again: true });
    await bob.message(ack.message_id);
    disconnect(alice, bob);
  });

  test('of both bar the way of both', async () => {
    const [alice, bob] = await people('alice', 'bob');
    await chat(alice, bob);
    await client.blockFriends(alice.session, [], [bob.name]);
    await client.blockFriends(bob.session, [], [alice.name]);
    await rejected(alice, chat(alice, bob));
    await rejected(bob, chat(bob, alice));
    await client.deleteFriends(alice.session, [bob.id]);
    await rejected(alice, chat(alice, bob));
    assert.ok((await chat(bob, alice)).id, 'he may come, for only his own block is left');
    disconnect(alice, bob);
  });

  test('of strangers are as good', async () => {
    const [alice] = await people('alice');
    const [bob] = await strangers('bob');
    await client.blockFriends(bob, [alice.id]);
    await rejected(alice, alice.socket.joinChat(bob.user_id, DIRECT, true, false));
    assert.deepEqual((await client.listNotifications(bob, 10)).notifications, []);
    disconnect(alice);
  });
});
