// The channel of a group: who may come in, what it hears of its members, and the end of those who are thrown out.

import { describe, test } from 'node:test';
import {
  GROUP, Listener, ROOM, UNKNOWN, assert, client, disconnect, moment, people, refused, rejected, wholeHistory,
} from './harness.mjs';

// What has happened to a member.
const [JOINED, ADDED, LEFT, KICKED, PROMOTED, BANNED, DEMOTED] = [3, 4, 5, 6, 7, 8, 9];
const [YOU_WERE_ADDED, ASKS_TO_JOIN] = [-4, -5];

let made = 0;
const group = (founder, fields = {}) => {
  const name = `group chat ${(made += 1)}`;
  return client.createGroup(founder.session, { name, open: true, ...fields });
};
const come = (listener, { id }, hidden = false) => listener.socket.joinChat(id, GROUP, true, hidden);
const ids = (...listeners) => listeners.map((listener) => listener.id);

/** What history says has happened, and to whom. */
const events = (history) => history.filter((m) => m.code >= 3).map((m) => [m.code, m.sender_id]);

describe('the channel of a group', () => {
  test('is for its members', async () => {
    const [ada, bob, cleo, dora] = await people('ada', 'bob', 'cleo', 'dora');
    const made = await group(ada);
    await client.joinGroup(bob.session, made.id);
    await client.updateGroup(ada.session, made.id, { open: false });
    await client.joinGroup(cleo.session, made.id);
    const hers = await come(ada, made);
    assert.equal(hers.id, `3.${made.id}..`);
    assert.equal(hers.group_id, made.id);
    const own = await ada.joined(hers.self.session_id);
    assert.deepEqual([own.channel_id, own.group_id], [hers.id, made.id]);
    const his = await bob.socket.joinChat(made.id.toUpperCase(), GROUP, true, false);
    assert.equal(his.id, hers.id);
    assert.deepEqual(his.presences.map((p) => p.user_id), [ada.id]);
    for (const one of [cleo, dora]) {
      await rejected(one, come(one, made));
      await rejected(one, one.socket.writeChatMessage(hers.id, { let: 'me in' }));
      await refused(client.listChannelMessages(one.session, hers.id, 10), 400, 3);
    }
    for (const target of ['', 'nonsense', UNKNOWN]) await rejected(ada, ada.socket.joinChat(target, GROUP, true, false));

    const ack = await bob.socket.writeChatMessage(hers.id, { hello: 'group' });
    assert.deepEqual([ack.group_id, ack.persistent], [made.id, true]);
    const message = await ada.message(ack.message_id);
    assert.deepEqual([message.group_id, message.sender_id, message.content.hello], [made.id, bob.id, 'group']);
    await bob.socket.leaveChat(hers.id);
    assert.equal((await ada.left(his.self.session_id)).group_id, made.id);
    const { group_users: members } = await client.listGroupUsers(ada.session, made.id);
    assert.deepEqual(members.map((m) => [m.user.id, m.state]), [[ada.id, 0], [bob.id, 2], [cleo.id, 3]], 'whoever leaves the chat stays in the group');
    disconnect(ada, bob, cleo, dora);
  });

  test('hears of every change, live and in history, in one order', async () => {
    const [sue, ada, bob, cleo, dora, eve] = await people('sue', 'ada', 'bob', 'cleo', 'dora', 'eve');
    const made = await group(sue);
    const { id } = await come(sue, made);
    const says = async (text) => (await sue.socket.writeChatMessage(id, { text })).message_id;
    await says('first');
    for (const one of [ada, bob]) await client.joinGroup(one.session, made.id);
    await come(ada, made);
    await client.promoteGroupUsers(sue.session, made.id, ids(ada, bob));
    await says('promoted');
    await client.updateGroup(sue.session, made.id, { open: false, description: 'told to nobody' });
    for (const one of [cleo, dora, eve]) await client.joinGroup(one.session, made.id);
    await client.addGroupUsers(ada.session, made.id, [cleo.id]);
    await client.kickGroupUsers(ada.session, made.id, [dora.id]);
    await client.leaveGroup(eve.session, made.id);
    await client.addGroupUsers(sue.session, made.id, ids(dora, eve));
    await says('full house');
    await client.demoteGroupUsers(sue.session, made.id, [bob.id]);
    await client.kickGroupUsers(ada.session, made.id, ids(bob, sue));
    await client.banGroupUsers(ada.session, made.id, [dora.id]);
    await client.kickGroupUsers(ada.session, made.id, [dora.id]);
    await client.leaveGroup(eve.session, made.id);
    for (const one of [ada, bob]) await client.promoteGroupUsers(sue.session, made.id, [one.id]);
    const last = await says('last');

    await Promise.all([sue, ada].map((one) => one.message(last)));
    const history = await wholeHistory(id, sue.session, 5);
    assert.deepEqual(events(history), [
      [JOINED, ada.id], [JOINED, bob.id], [PROMOTED, ada.id], [PROMOTED, bob.id], [ADDED, cleo.id], [ADDED, dora.id], [ADDED, eve.id],
      [DEMOTED, bob.id], [KICKED, bob.id], [BANNED, dora.id], [LEFT, eve.id], [PROMOTED, ada.id],
    ], 'nothing of requests that came to nothing, of a lifted ban, and of those who are not concerned');
    assert.deepEqual(history.filter((m) => m.code === 0).map((m) => m.content.text), ['first', 'promoted', 'full house', 'last']);
    assert.deepEqual(sue.messages.map((m) => m.message_id), history.map((m) => m.message_id), 'history is what was heard');
    const place = history.findIndex((m) => m.code === PROMOTED);
    assert.deepEqual(ada.messages.map((m) => m.message_id), history.slice(place).map((m) => m.message_id));
    const names = new Map([ada, bob, cleo, dora, eve].map((one) => [one.id, one.name]));
    for (const [place, message] of history.entries()) {
      if (message.code === 0) continue;
      const heard = sue.messages[place];
      assert.deepEqual([message.username, message.content, message.persistent], [names.get(message.sender_id), {}, true]);
      assert.deepEqual([heard.code, heard.sender_id, heard.username, heard.content], [message.code, message.sender_id, message.username, {}]);
      assert.deepEqual([heard.group_id, message.group_id, heard.channel_id], [made.id, made.id, id]);
      assert.equal(moment(heard.create_time), moment(message.create_time));
    }
    const times = history.map((m) => moment(m.create_time));
    assert.deepEqual(times, times.toSorted((one, two) => one - two));
    disconnect(sue, ada, bob, cleo, dora, eve);
  });

  test('its members are notified of what concerns them alone', async () => {
    const [sue, ada, meg, ray, nan] = await people('sue', 'ada', 'meg', 'ray', 'nan');
    const second = await Listener.connect(ada.session);
    const made = await group(sue, { open: false });
    await client.addGroupUsers(sue.session, made.id, ids(ada, meg));
    for (const one of [ada, second, meg]) {
      const told = await one.notified(YOU_WERE_ADDED, sue.id);
      assert.equal(told.subject, `You've been added to group ${made.name}`);
      assert.deepEqual(told.content, { group_id: made.id, name: made.name });
      assert.equal(told.persistent, true);
    }
    await client.promoteGroupUsers(sue.session, made.id, [ada.id]);
    await client.joinGroup(ray.session, made.id);
    for (const one of [sue, ada, second]) {
      const told = await one.notified(ASKS_TO_JOIN, ray.id);
      assert.equal(told.subject, `User ${ray.name} wants to join your group`);
      assert.deepEqual(told.content, { group_id: made.id, username: ray.name });
    }
    await client.joinGroup(ray.session, made.id);
    await client.addGroupUsers(ada.session, made.id, ids(ray, meg, sue, ada));
    await ray.notified(YOU_WERE_ADDED, ada.id);
    await client.joinGroup(nan.session, made.id);
    await client.kickGroupUsers(sue.session, made.id, ids(nan, ray));
    await client.banGroupUsers(sue.session, made.id, [meg.id]);
    await Promise.all([sue, ada, second, meg, ray, nan].map((one) => one.caughtUp()));
    const counts = [sue, ada, second, meg, ray, nan].map((one) => [one.count(YOU_WERE_ADDED), one.count(ASKS_TO_JOIN)]);
    assert.deepEqual(counts, [[0, 2], [1, 2], [1, 2], [1, 0], [1, 0], [0, 0]]);
    for (const one of [sue, ada, meg, ray, nan]) {
      const stored = (await client.listNotifications(one.session, 100)).notifications;
      assert.deepEqual(stored.map((n) => n.id), one.notifications.map((n) => n.id), 'stored is what was pushed');
    }
    disconnect(sue, ada, second, meg, ray, nan);
  });
});

/** A group whose chat `victim` has come into with four sessions, one of them hidden; a fifth is elsewhere. */
async function crowdedBy(victim, founder, friend) {
  const made = await group(founder);
  for (const one of [victim, friend]) await client.joinGroup(one.session, made.id);
  const { id } = await come(founder, made);
  await come(friend, made);
  const sessions = [victim, ...await Promise.all([1, 2, 3, 4].map(() => Listener.connect(victim.session)))];
  const elsewhere = sessions.pop();
  const room = await elsewhere.socket.joinChat(`elsewhere ${made.id}`, ROOM, true, false);
  await founder.socket.joinChat(`elsewhere ${made.id}`, ROOM, true, false);
  const hidden = sessions.at(-1);
  const presences = await Promise.all(sessions.map((one) => come(one, made, one === hidden)));
  const seen = presences.slice(0, -1).map((channel) => channel.self.session_id);
  const ack = await hidden.socket.writeChatMessage(id, { all: 'here' });
  await Promise.all([founder, friend, ...sessions].map((one) => one.message(ack.message_id)));
  return { made, id, sessions, elsewhere, room, seen };
}

describe('whoever is thrown out', () => {
  const ways = {
    'kicked': [KICKED, (admin, _, made, id) => client.kickGroupUsers(admin.session, made.id, [id])],
    'banned': [BANNED, (admin, _, made, id) => client.banGroupUsers(admin.session, made.id, [id])],
    'gone by oneself': [LEFT, (_, victim, made) => client.leaveGroup(victim.session, made.id)],
  };
  for (const [how, [code, act]] of Object.entries(ways)) {
    test(`${how}: hears of it on every session, and then nothing`, async () => {
      const [sue, victim, pal] = await people('sue', 'victim', 'pal');
      const { made, id, sessions, elsewhere, room, seen } = await crowdedBy(victim, sue, pal);
      await act(sue, victim, made, victim.id);
      const about = await Promise.all([sue, pal, ...sessions].map((one) => one.event(code, victim.id)));
      assert.equal(new Set(about.map((message) => message.message_id)).size, 1);
      for (const session of seen) await Promise.all([sue, pal].map((one) => one.left(session)));

      // What is said afterwards is for the others.
      const acks = await Promise.all([sue, pal, sue].map((one, n) => one.socket.writeChatMessage(id, { n })));
      for (const ack of acks) await Promise.all([sue, pal].map((one) => one.message(ack.message_id)));
      for (const one of sessions) {
        await rejected(one, one.socket.writeChatMessage(id, { still: 'here' }));
        await rejected(one, one.socket.updateChatMessage(id, about[0].message_id, {}));
        await rejected(one, one.socket.removeChatMessage(id, about[0].message_id));
        await rejected(one, come(one, made));
      }
      await rejected(elsewhere, come(elsewhere, made));
      await refused(client.listChannelMessages(victim.session, id, 10), 400, 3);
      for (const one of sessions) {
        await one.caughtUp();
        assert.equal(one.messages.at(-1).message_id, about[0].message_id, 'the last it heard');
        assert.deepEqual(one.gone, [], 'not even of its other sessions');
      }
      for (const one of [sue, pal]) {
        assert.deepEqual(one.gone.toSorted(), seen.toSorted(), 'the hidden one leaves unseen');
        assert.equal(one.messages.filter((m) => m.code >= LEFT).length, 1);
      }
      // The other rooms of the same user go on.
      const ack = await elsewhere.socket.writeChatMessage(room.id, { not: 'concerned' });
      await sue.message(ack.message_id);
      assert.deepEqual(elsewhere.messages.map((m) => m.channel_id), [room.id]);

      await client.joinGroup(victim.session, made.id);
      if (code === BANNED) {
        await rejected(victim, come(victim, made));
        await client.kickGroupUsers(sue.session, made.id, [victim.id]);
        await rejected(victim, come(victim, made));
        await client.joinGroup(victim.session, made.id);
      }
      await come(victim, made);
      const back = await victim.socket.writeChatMessage(id, { back: 'again' });
      await Promise.all([sue, pal].map((one) => one.message(back.message_id)));
      const expected = [[JOINED, victim.id], [JOINED, pal.id], [code, victim.id], [JOINED, victim.id]];
      assert.deepEqual(events(await wholeHistory(id, victim.session)), expected);
      disconnect(sue, pal, elsewhere, ...sessions);
    });
  }

  test('several at once, each with a message', async () => {
    const [sue, one, two, three] = await people('sue', 'one', 'two', 'three');
    const made = await group(sue);
    const { id } = await come(sue, made);
    for (const member of [one, two, three]) {
      await client.joinGroup(member.session, made.id);
      await come(member, made);
    }
    await client.kickGroupUsers(sue.session, made.id, ids(three, one, two));
    const order = [three.id, one.id, two.id];
    for (const member of [sue, one, two, three]) {
      await member.event(KICKED, two.id);
      assert.deepEqual(member.messages.filter((m) => m.code === KICKED).map((m) => m.sender_id), order);
    }
    assert.deepEqual(events(await wholeHistory(id, sue.session)).slice(-3), order.map((user) => [KICKED, user]));
    for (const member of [one, two, three]) await rejected(member, member.socket.writeChatMessage(id, { still: 'here' }));
    disconnect(sue, one, two, three);
  });
});
