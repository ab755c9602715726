// Rooms: presence, messages, and what is refused there.

import { describe, test } from 'node:test';
import {
  Listener, ROOM, assert, assertBare, client, connect, format, newSocket, rejected, signIn, wholeHistory, within,
} from './harness.mjs';

describe('rooms', () => {
  test('joining, presence and leaving', async () => {
    const alice = await connect('alice');
    const first = await alice.socket.joinChat('hall', ROOM, true, false);
    assert.equal(first.id, '2...hall');
    assert.equal(first.room_name, 'hall');
    assert.equal(first.self.user_id, alice.session.user_id);
    assert.equal(first.self.username, 'alice');
    assert.equal(first.self.persistence, true);
    assert.deepEqual(first.presences ?? [], []);
    const own = await alice.joined(first.self.session_id);
    assert.equal(own.channel_id, '2...hall');
    assert.equal(own.room_name, 'hall');

    const bob = await connect('bob');
    const second = await bob.socket.joinChat('hall', ROOM, false, false);
    assert.deepEqual(second.presences.map((p) => p.session_id), [first.self.session_id]);
    assert.equal(second.self.persistence ?? false, false);
    const came = await alice.joined(second.self.session_id);
    assert.equal(came.joins[0].username, 'bob');
    assert.equal(came.joins[0].persistence ?? false, false);

    const hidden = await connect('hidden');
    const third = await hidden.socket.joinChat('hall', ROOM, true, true);
    assert.deepEqual(third.presences.map((p) => p.username).sort(), ['alice', 'bob']);
    await hidden.socket.leaveChat('2...hall');

    const left = await bob.socket.leaveChat('2...hall');
    assertBare(left);
    const gone = await alice.left(second.self.session_id);
    assert.equal(gone.leaves[0].user_id, bob.session.user_id);
    assertBare(await bob.socket.leaveChat('2...hall'));
    await rejected(bob, bob.socket.writeChatMessage('2...hall', { a: 1 }));

    const back = await bob.socket.joinChat('hall', ROOM, true, false);
    assert.deepEqual(back.presences.map((p) => p.username), ['alice']);
    await alice.until(() => alice.presences.filter((e) => e.joins?.[0]?.username === 'bob').length === 2, 'bob again');
    assert.ok(!bob.presences.some((e) => (e.leaves ?? []).length > 0), 'the leaver hears no leave event');
    const named = alice.presences.flatMap((e) => [...(e.joins ?? []), ...(e.leaves ?? [])]).map((p) => p.username);
    assert.ok(!named.includes('hidden'), 'the hidden one was never announced');
    alice.socket.disconnect();
    await bob.left(first.self.session_id);
    bob.socket.disconnect();
    hidden.socket.disconnect();
  });

  test('one\'s own words are changed and removed from a presence that keeps nothing', async () => {
    const alice = await connect('alice');
    const bob = await connect('bob');
    const { id } = await bob.socket.joinChat('own words', ROOM, true, false);
    await alice.socket.joinChat('own words', ROOM, true, false);
    const kept = [];
    for (const n of [1, 2]) kept.push((await alice.socket.writeChatMessage(id, { n })).message_id);
    await alice.socket.leaveChat(id);
    await alice.socket.joinChat('own words', ROOM, false, false);
    const changed = await alice.socket.updateChatMessage(id, kept[0], { n: 3 });
    const removed = await alice.socket.removeChatMessage(id, kept[1]);
    assert.deepEqual([changed, removed].map((ack) => [ack.code, ack.persistent]), [[1, true], [2, true]]);
    await bob.until(() => bob.messages.some((m) => m.message_id === kept[1] && m.code === 2), 'the removal');
    const told = bob.messages.find((m) => m.message_id === kept[0] && m.code === 1);
    assert.deepEqual([told.persistent, told.content], [true, { n: 3 }]);
    const { messages } = await client.listChannelMessages(bob.session, id, 10, false);
    assert.deepEqual(messages.map((m) => [m.message_id, m.content]), [[kept[0], { n: 3 }]]);
    alice.socket.disconnect();
    bob.socket.disconnect();
  });

  test('a re-join changes nothing and announces nothing', async () => {
    const alice = await connect('alice');
    const bob = await connect('bob');
    await bob.socket.joinChat('rejoin', ROOM, true, false);
    const first = await alice.socket.joinChat('rejoin', ROOM, true, false);
    const again = await alice.socket.joinChat('rejoin', ROOM, false, true);
    assert.deepEqual(again.presences.map((p) => p.username).sort(), ['alice', 'bob']);
    assert.equal(again.self.session_id, first.self.session_id);
    assert.equal(again.self.persistence ?? false, false, 'self shows the new wish');
    const ack = await alice.socket.writeChatMessage(first.id, { still: 'kept' });
    assert.equal(ack.persistent, true, 'the stored wish is the old one');
    await bob.message(ack.message_id);
    assert.equal(bob.presences.filter((e) => e.joins?.[0]?.username === 'alice').length, 1);
    alice.socket.disconnect();
    bob.socket.disconnect();
  });

  test('sending, changing and removing a message', async () => {
    const [alice, bob] = [await connect('alice'), await connect('bob')];
    const { id } = await alice.socket.joinChat('talk', ROOM, true, false);
    await bob.socket.joinChat('talk', ROOM, true, false);
    const content = { text: 'Grüße 🎉 "quoted"', nested: { list: [1, 2.5, null, true] } };
    const order = [];
    const heard = alice.message.bind(alice);
    alice.socket.onchannelmessage = ((before) => (message) => {
      order.push('message');
      before(message);
    })(alice.socket.onchannelmessage);
    const sent = await alice.socket.writeChatMessage(id, content);
    order.push('ack');
    assert.deepEqual(order, ['message', 'ack'], 'the own copy comes before the ack');
    assert.equal(sent.code, 0);
    assert.equal(sent.persistent, true);
    assert.equal(sent.username, 'alice');
    assert.equal(sent.room_name, 'talk');
    assert.equal(sent.channel_id, id);
    assert.ok(format.isTime(sent.create_time));
    assert.deepEqual(sent.update_time, sent.create_time);
    for (const message of [await heard(sent.message_id), await bob.message(sent.message_id)]) {
      assert.deepEqual(message.content, content);
      assert.equal(message.sender_id, alice.session.user_id);
      assert.equal(message.username, 'alice');
      assert.deepEqual(message.create_time, sent.create_time);
      assert.equal(message.persistent, true);
    }

    const updated = await alice.socket.updateChatMessage(id, sent.message_id, { text: 'hello' });
    assert.equal(updated.code, 1);
    assert.equal(updated.message_id, sent.message_id);
    assert.deepEqual(updated.create_time, sent.create_time);
    assert.ok(format.isLater(updated.update_time, sent.update_time));
    const change = await bob.message(sent.message_id, 1);
    assert.deepEqual(change.content, { text: 'hello' });
    assert.deepEqual(change.update_time, updated.update_time);
    const stored = await client.listChannelMessages(bob.session, id, 10, false);
    assert.deepEqual(stored.messages.map((m) => [m.message_id, m.code, m.content.text]), [[sent.message_id, 0, 'hello']]);

    await rejected(bob, bob.socket.updateChatMessage(id, sent.message_id, { forged: true }));
    await rejected(bob, bob.socket.removeChatMessage(id, sent.message_id));
    await rejected(alice, alice.socket.updateChatMessage(id, '65aea872-a336-4029-90c9-6f507b75281c', {}));
    await rejected(alice, alice.socket.removeChatMessage(id, 'nonsense'));

    const removed = await alice.socket.removeChatMessage(id, sent.message_id);
    assert.equal(removed.code, 2);
    const removal = await bob.message(sent.message_id, 2);
    assert.deepEqual(removal.content, {});
    assert.equal((await client.listChannelMessages(bob.session, id, 10)).messages.length, 0);
    await rejected(alice, alice.socket.removeChatMessage(id, sent.message_id));
    alice.socket.disconnect();
    bob.socket.disconnect();
  });

  test('messages that are not kept', async () => {
    const [alice, bob] = [await connect('alice'), await connect('bob')];
    const { id } = await alice.socket.joinChat('passing', ROOM, false, false);
    await bob.socket.joinChat('passing', ROOM, true, true);
    const passing = await alice.socket.writeChatMessage(id, { typing: true });
    assert.equal(passing.persistent, false);
    assert.equal((await bob.message(passing.message_id)).persistent, false);
    const kept = await bob.socket.writeChatMessage(id, { kept: true });
    assert.equal(kept.persistent, true);
    await alice.message(kept.message_id);
    const history = await client.listChannelMessages(alice.session, id, 100);
    assert.deepEqual(history.messages.map((m) => m.message_id), [kept.message_id]);
    const update = await alice.socket.updateChatMessage(id, passing.message_id, { typing: false });
    assert.equal(update.persistent, false);
    assert.deepEqual((await bob.message(passing.message_id, 1)).content, { typing: false });
    await rejected(alice, alice.socket.updateChatMessage(id, kept.message_id, { forged: true }));
    alice.socket.disconnect();
    bob.socket.disconnect();
  });

  test('two sessions of one user', async () => {
    const session = await signIn('alice');
    const [one, two] = [await Listener.connect(session), await Listener.connect(session)];
    const first = await one.socket.joinChat('double', ROOM, true, false);
    const second = await two.socket.joinChat('double', ROOM, true, false);
    assert.notEqual(first.self.session_id, second.self.session_id);
    assert.deepEqual(second.presences.map((p) => p.session_id), [first.self.session_id]);
    await one.joined(second.self.session_id);
    const ack = await two.socket.writeChatMessage(first.id, { from: 'two' });
    assert.equal((await one.message(ack.message_id)).sender_id, session.user_id);
    const changed = await one.socket.updateChatMessage(first.id, ack.message_id, { from: 'one' });
    assert.equal(changed.code, 1);
    await two.message(ack.message_id, 1);
    two.socket.disconnect();
    await one.left(second.self.session_id);
    const third = await one.socket.writeChatMessage(first.id, { still: 'here' });
    assert.ok(third.message_id);
    one.socket.disconnect();
  });

  test('one order for everybody', async () => {
    const names = ['o1', 'o2', 'o3', 'o4', 'o5'];
    const each = 40;
    const members = await Promise.all(names.map(connect));
    const channels = await Promise.all(members.map((m) => m.socket.joinChat('order', ROOM, true, false)));
    const { id } = channels[0];
    // No waiting for answers: requests of all overlap.
    const acks = await Promise.all(
      members.flatMap((m, who) => Array.from({ length: each }, (_, n) => m.socket.writeChatMessage(id, { who, n }))),
    );
    assert.equal(new Set(acks.map((ack) => ack.message_id)).size, names.length * each);
    await Promise.all(members.map((m) => m.until(() => m.messages.length >= names.length * each, 'all messages')));
    const orders = members.map((m) => m.messages.map((message) => message.message_id));
    for (const order of orders) assert.deepEqual(order, orders[0]);
    const history = await wholeHistory(id, members[0].session);
    assert.deepEqual(history.map((m) => m.message_id), orders[0]);
    for (const who of names.keys()) {
      const numbers = history.filter((m) => m.content.who === who).map((m) => m.content.n);
      assert.deepEqual(numbers, [...Array(each).keys()], 'each sender keeps its order');
    }
    for (const member of members) member.socket.disconnect();
  });

  test('refused requests leave the socket open', async () => {
    const alice = await connect('alice');
    const { id } = await alice.socket.joinChat('refusals', ROOM, true, false);
    await rejected(alice, alice.socket.joinChat('', ROOM, true, false));
    await rejected(alice, alice.socket.joinChat('x'.repeat(65), ROOM, true, false));
    await rejected(alice, alice.socket.joinChat('bell\u0007', ROOM, true, false));
    await rejected(alice, alice.socket.joinChat('refusals', 7, true, false));
    await rejected(alice, alice.socket.writeChatMessage('refusals', { a: 1 }));
    await rejected(alice, alice.socket.writeChatMessage('2...elsewhere', { a: 1 }));
    await rejected(alice, alice.socket.writeChatMessage(id, [1]));
    await rejected(alice, alice.socket.writeChatMessage(id, 'text'));
    await rejected(alice, alice.socket.writeChatMessage(id, 5));
    await rejected(alice, alice.socket.writeChatMessage(id, null));
    await rejected(alice, alice.socket.leaveChat('nonsense'));
    await rejected(alice, alice.socket.rpc('no_such_function', '{}'), 6);
    await rejected(alice, alice.socket.createMatch(), 1);
    assert.ok((await alice.socket.writeChatMessage(id, {})).message_id);
    alice.socket.disconnect();
  });

  test('the heartbeat of the client is answered', async () => {
    const session = await signIn('alice');
    const socket = newSocket();
    // The time between two heartbeats, and the most that the answer to one may take on a busy machine.
    socket.setHeartbeatTimeoutMs(1000);
    let timedOut = false;
    socket.onheartbeattimeout = () => { timedOut = true; };
    await socket.connect(session, false);
    const first = socket.nextCid;
    await within((async () => {
      while (socket.nextCid < first + 3) await new Promise((resolve) => setTimeout(resolve, 20));
    })(), 'three heartbeats');
    assert.equal(timedOut, false);
    assert.ok((await socket.send({ ping: {} })).pong);
    socket.disconnect();
  });

  test('a socket needs a good token', async () => {
    const session = await signIn('alice');
    const socket = newSocket();
    const forged = { token: `${session.token.slice(0, -2)}xx` };
    await assert.rejects(socket.connect(forged, false).catch((event) => { throw new Error(event.message ?? 'refused'); }), /401|refused/);
  });
});
