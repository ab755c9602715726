// The unmodified official JavaScript client does everything a room offers: sign in, join, talk, catch up. Its socket speaks
// JSON, or protobuf through the official adapter (formats.mjs).
//
// Run by tests/tests/official_client.rs; by hand: STENTOR_BIN=target/release/stentor node official.mjs

import strict from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client, Session } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';
import { format, formatName } from './formats.mjs';
import { Server, within } from './server.mjs';

// Node has had a WebSocket of its own only since version 22; the client expects the browser's.
globalThis.WebSocket = WebSocket;

// Assertions are counted, so that a test that silently does nothing is seen.
let assertions = 0;
const assert = new Proxy(strict, {
  get(target, name) {
    const member = target[name];
    if (typeof member !== 'function') return member;
    return (...rest) => {
      assertions += 1;
      return member(...rest);
    };
  },
});

// The client thinks little of the default lifetimes, and says so at each sign-in.
const warn = console.warn;
console.warn = (...words) => /lifetime too short/.test(words[0]) || warn(...words);

const ROOM = 1;
const server = new Server();
let client;

before(async () => {
  await server.start();
  client = new Client('defaultkey', server.host, String(server.port), false);
});

after(() => console.log(`${assertions} assertions, ${process.env.STENTOR_TEST_SHARDS ?? '1'} shards, ${formatName}`));

/** A socket of the format that is tested, not opened yet. */
function createSocket() {
  return client.createSocket(false, false, format.adapter());
}

/** An open socket that keeps what it hears, so that tests wait for things instead of for time. */
class Listener {
  messages = [];
  presences = [];
  everything = [];
  closed = null;
  #waiting = [];

  static async connect(session) {
    const listener = new Listener();
    const socket = createSocket();
    listener.socket = socket;
    listener.session = session;
    socket.onchannelmessage = (message) => listener.#heard('messages', message);
    socket.onchannelpresence = (event) => listener.#heard('presences', event);
    socket.ondisconnect = (event) => {
      listener.closed = event;
      listener.#wake();
    };
    await within(socket.connect(session, false), 'the socket opens');
    return listener;
  }

  #heard(kind, what) {
    this[kind].push(what);
    this.everything.push({ kind, what });
    this.#wake();
  }

  #wake() {
    for (const check of [...this.#waiting]) check();
  }

  /** Waits until `found` gives something. */
  until(found, what) {
    const promise = new Promise((resolve) => {
      const check = () => {
        const value = found();
        if (!value) return;
        this.#waiting = this.#waiting.filter((other) => other !== check);
        resolve(value);
      };
      this.#waiting.push(check);
      check();
    });
    return within(promise, what);
  }

  message(id, code = 0) {
    return this.until(() => this.messages.find((m) => m.message_id === id && m.code === code), `message ${id}`);
  }

  joined(session_id) {
    return this.until(() => this.presences.find((e) => (e.joins ?? []).some((p) => p.session_id === session_id)), 'a join');
  }

  left(session_id) {
    return this.until(() => this.presences.find((e) => (e.leaves ?? []).some((p) => p.session_id === session_id)), 'a leave');
  }
}

async function signIn(name) {
  return client.authenticateCustom(`custom-id-of-${name}`, true, name);
}

async function connect(name) {
  return Listener.connect(await signIn(name));
}

/** Asserts that a REST call is refused with this status and code. */
async function refused(promise, status, code) {
  const response = await within(
    promise.then((value) => strict.fail(`should have been refused: ${JSON.stringify(value)}`), (reason) => reason),
    'a refusal',
  );
  if (response instanceof Error) throw response;
  assert.equal(response.status, status);
  const body = await response.json();
  assert.equal(body.code, code);
  assert.ok(body.message.length > 0);
}

/** Asserts that a request over the socket is refused with this code, and that the socket stays open. */
async function rejected(listener, promise, code = 3) {
  const error = await promise.then((value) => strict.fail(`should have been refused: ${JSON.stringify(value)}`), (reason) => reason);
  if (error instanceof Error) throw error;
  assert.equal(error.code, code);
  assert.ok(error.message.length > 0);
  const pong = await listener.socket.send({ ping: {} });
  assert.ok(pong.pong);
  assert.equal(listener.closed, null);
}

describe('accounts and sessions', () => {
  test('device, custom id and email', async () => {
    const device = await client.authenticateDevice('device-id-of-ada', true, 'ada');
    assert.equal(device.created, true);
    assert.equal(device.username, 'ada');
    assert.match(device.user_id, /^[0-9a-f-]{36}$/);
    assert.equal(device.isexpired(Date.now() / 1000), false);
    assert.equal(device.isrefreshexpired(Date.now() / 1000), false);
    const again = await client.authenticateDevice('device-id-of-ada');
    assert.equal(again.created, false);
    assert.equal(again.user_id, device.user_id);
    assert.equal(again.username, 'ada');

    const custom = await client.authenticateCustom('custom-id-of-grace', true, undefined, { lang: 'en', team: 'blue' });
    assert.equal(custom.created, true);
    assert.match(custom.username, /^[A-Za-z]{10}$/);
    assert.deepEqual(custom.vars, { lang: 'en', team: 'blue' });
    assert.notEqual(custom.user_id, device.user_id);

    const email = await client.authenticateEmail('Hedy@Example.org', 'long enough', true, 'hedy');
    assert.equal(email.created, true);
    const login = await client.authenticateEmail('hedy@example.org', 'long enough', false);
    assert.equal(login.user_id, email.user_id);
    await refused(client.authenticateEmail('hedy@example.org', 'wrong password', false), 401, 16);
    await refused(client.authenticateEmail('nobody@example.org', 'long enough', false), 404, 5);
    await refused(client.authenticateEmail('hedy', 'long enough', true), 400, 3);
    await refused(client.authenticateEmail('other@example.org', 'short', true), 400, 3);
    await refused(client.authenticateDevice('device-id-of-nobody', false), 404, 5);
    await refused(client.authenticateDevice('short', true), 400, 3);
    await refused(client.authenticateCustom('tiny', true), 400, 3);
    await refused(client.authenticateDevice('another-device-id', true, 'ada'), 409, 6);
    const stranger = new Client('wrongkey', server.host, String(server.port), false);
    await refused(stranger.authenticateDevice('device-id-of-ada'), 401, 16);
  });

  test('refresh, restore and logout', async () => {
    const session = await client.authenticateCustom('custom-id-of-lina', true, 'lina', { a: '1' });
    const restored = Session.restore(session.token, session.refresh_token);
    assert.equal(restored.user_id, session.user_id);
    assert.equal((await client.getAccount(restored)).user.username, 'lina');
    const before = session.token;
    const refreshed = await client.sessionRefresh(session, { a: '2' });
    assert.equal(refreshed.user_id, restored.user_id);
    assert.deepEqual(refreshed.vars, { a: '2' });
    assert.equal((await client.getAccount(refreshed)).user.id, restored.user_id);
    const garbage = Session.restore(before, before);
    await refused(client.sessionRefresh(garbage), 401, 16);

    assert.equal(await client.sessionLogout(refreshed, refreshed.token, refreshed.refresh_token), true);
    const manual = new Client('defaultkey', server.host, String(server.port), false, 7000, false);
    await refused(manual.getAccount(refreshed), 401, 16);
    await refused(manual.sessionRefresh(refreshed), 401, 16);
    await refused(manual.getAccount(Session.restore(before, refreshed.refresh_token)), 401, 16);
    const fresh = await signIn('lina');
    assert.equal((await manual.getAccount(fresh)).user.username, 'lina');
  });

  test('reading and changing an account', async () => {
    const session = await signIn('mary');
    const fields = { display_name: 'Mary S.', avatar_url: 'a.png', lang_tag: 'de', location: 'Paris', timezone: 'CET' };
    assert.equal(await client.updateAccount(session, { username: 'mary2', ...fields }), true);
    const account = await client.getAccount(session);
    assert.equal(account.user.username, 'mary2');
    for (const [name, value] of Object.entries(fields)) assert.equal(account.user[name], value);
    assert.equal(account.custom_id, 'custom-id-of-mary');
    assert.equal(account.wallet, '{}');
    assert.equal(await client.updateAccount(session, { display_name: '' }), true);
    assert.equal((await client.getAccount(session)).user.display_name, undefined);
    assert.equal((await client.getAccount(session)).user.location, 'Paris');
    await signIn('taken');
    await refused(client.updateAccount(session, { username: 'taken' }), 400, 3);
    await refused(client.updateAccount(session, {}), 400, 3);
    const device = await client.authenticateDevice('device-id-of-mary');
    assert.deepEqual((await client.getAccount(device)).devices.map((d) => d.id), ['device-id-of-mary']);
  });

  test('looking users up', async () => {
    const [one, two] = [await signIn('user-one'), await signIn('user-two')];
    const byId = await client.getUsers(one, [one.user_id, two.user_id, '65aea872-a336-4029-90c9-6f507b75281c']);
    assert.deepEqual(byId.users.map((u) => u.username).sort(), ['user-one', 'user-two']);
    const byName = await client.getUsers(one, [], ['user-two', 'nobody-of-this-name']);
    assert.deepEqual(byName.users.map((u) => u.id), [two.user_id]);
    assert.match(byName.users[0].create_time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
    await refused(client.getUsers(one, ['nonsense']), 400, 3);
  });
});

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
    assert.deepEqual(Object.keys(left), ['cid']);
    const gone = await alice.left(second.self.session_id);
    assert.equal(gone.leaves[0].user_id, bob.session.user_id);
    assert.deepEqual(Object.keys(await bob.socket.leaveChat('2...hall')), ['cid']);
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
    assert.equal(format.time(sent.update_time), format.time(sent.create_time));
    for (const message of [await heard(sent.message_id), await bob.message(sent.message_id)]) {
      assert.deepEqual(message.content, content);
      assert.equal(message.sender_id, alice.session.user_id);
      assert.equal(message.username, 'alice');
      assert.equal(format.time(message.create_time), format.time(sent.create_time));
      assert.equal(message.persistent, true);
    }

    const updated = await alice.socket.updateChatMessage(id, sent.message_id, { text: 'hello' });
    assert.equal(updated.code, 1);
    assert.equal(updated.message_id, sent.message_id);
    assert.equal(format.time(updated.create_time), format.time(sent.create_time));
    assert.ok(format.isLater(updated.update_time, sent.update_time));
    const change = await bob.message(sent.message_id, 1);
    assert.deepEqual(change.content, { text: 'hello' });
    assert.equal(format.time(change.update_time), format.time(updated.update_time));
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
    const socket = createSocket();
    // The time between two heartbeats, and the most that the answer to one may take on a busy machine.
    socket.setHeartbeatTimeoutMs(250);
    let timedOut = false;
    socket.onheartbeattimeout = () => { timedOut = true; };
    await socket.connect(session, false);
    const first = socket.nextCid;
    await within((async () => {
      while (socket.nextCid < first + 5) await new Promise((resolve) => setTimeout(resolve, 20));
    })(), 'five heartbeats');
    assert.equal(timedOut, false);
    assert.ok((await socket.send({ ping: {} })).pong);
    socket.disconnect();
  });

  test('a socket needs a good token', async () => {
    const session = await signIn('alice');
    const socket = createSocket();
    const forged = { token: `${session.token.slice(0, -2)}xx` };
    await assert.rejects(socket.connect(forged, false).catch((event) => { throw new Error(event.message ?? 'refused'); }), /401|refused/);
  });
});

/** Everything in a channel, oldest first, by pages. */
async function wholeHistory(id, session, limit = 100) {
  const messages = [];
  let cursor;
  do {
    const page = await client.listChannelMessages(session, id, limit, true, cursor);
    messages.push(...page.messages);
    cursor = page.next_cursor;
  } while (cursor);
  return messages;
}

describe('history', () => {
  const numbers = (page) => page.messages.map((m) => m.content.n);
  let talker, outsider, id;
  const list = (limit, forward, cursor) => client.listChannelMessages(outsider, id, limit, forward, cursor);

  before(async () => {
    talker = await connect('talker');
    outsider = await signIn('outsider');
    ({ id } = await talker.socket.joinChat('history', ROOM, true, false));
    for (let n = 1; n <= 7; n += 1) await talker.socket.writeChatMessage(id, { n });
  });

  test('forward, and back again', async () => {
    const one = await list(3, true);
    assert.deepEqual(numbers(one), [1, 2, 3]);
    assert.ok(one.next_cursor && !one.prev_cursor && one.cacheable_cursor);
    const two = await list(3, true, one.next_cursor);
    assert.deepEqual(numbers(two), [4, 5, 6]);
    assert.ok(two.next_cursor && two.prev_cursor && two.cacheable_cursor);
    const three = await list(3, true, two.next_cursor);
    assert.deepEqual(numbers(three), [7]);
    assert.ok(!three.next_cursor && three.prev_cursor && three.cacheable_cursor);
    const back = await list(3, true, three.prev_cursor);
    assert.deepEqual(numbers(back), [4, 5, 6]);
    assert.ok(back.next_cursor && back.prev_cursor);
    const start = await list(3, true, back.prev_cursor);
    assert.deepEqual(numbers(start), [1, 2, 3]);
    assert.ok(start.next_cursor && !start.prev_cursor);
    assert.deepEqual(numbers(await list(3, true, start.next_cursor)), [4, 5, 6]);
  });

  test('newest first, and back again', async () => {
    const one = await list(3, false);
    assert.deepEqual(numbers(one), [7, 6, 5]);
    assert.ok(one.next_cursor && !one.prev_cursor && one.cacheable_cursor);
    const two = await list(3, false, one.next_cursor);
    assert.deepEqual(numbers(two), [4, 3, 2]);
    assert.ok(two.next_cursor && two.prev_cursor);
    const three = await list(3, false, two.next_cursor);
    assert.deepEqual(numbers(three), [1]);
    assert.ok(!three.next_cursor && three.prev_cursor);
    const back = await list(3, false, three.prev_cursor);
    assert.deepEqual(numbers(back), [4, 3, 2]);
    assert.deepEqual(numbers(await list(3, false, back.prev_cursor)), [7, 6, 5]);
    assert.deepEqual(numbers(await list(10, true, one.cacheable_cursor)), [6, 7], 'what is newer than the last item');
  });

  test('defaults, ends and limits', async () => {
    assert.deepEqual(numbers(await list()), [1]);
    const exact = await list(7, true);
    assert.deepEqual(numbers(exact), [1, 2, 3, 4, 5, 6, 7]);
    assert.ok(!exact.next_cursor, 'a page that ends at the end has no next');
    const empty = await list(10, true, exact.cacheable_cursor);
    assert.deepEqual(numbers(empty), []);
    assert.equal(empty.cacheable_cursor, exact.cacheable_cursor);
    const nothing = await client.listChannelMessages(outsider, '2...never-used', 10);
    assert.deepEqual([nothing.messages, nothing.next_cursor, nothing.cacheable_cursor], [[], undefined, undefined]);
    await refused(list(0), 400, 3);
    await refused(list(101), 400, 3);
    await refused(list(10, true, 'forged'), 400, 3);
    await refused(list(10, false, exact.cacheable_cursor), 400, 3);
    await refused(client.listChannelMessages(outsider, '2...other', 10, true, exact.cacheable_cursor), 400, 3);
    await refused(client.listChannelMessages(outsider, 'nonsense', 10), 400, 3);
  });

  test('catching up with the cacheable cursor', async () => {
    const seen = await list(100, true);
    const unread = async () => numbers(await list(100, true, seen.cacheable_cursor));
    assert.deepEqual(await unread(), []);
    for (const n of [8, 9]) await talker.socket.writeChatMessage(id, { n });
    assert.deepEqual(await unread(), [8, 9]);
    assert.deepEqual(await unread(), [8, 9], 'reading changes nothing');
  });

  test('rooms whose names need encoding', async () => {
    for (const name of ['with space', 'with/slash', 'with?question', 'with%percent', 'dots.in.it', '日本語']) {
      const channel = await talker.socket.joinChat(name, ROOM, true, false);
      assert.equal(channel.id, `2...${name}`);
      await talker.socket.writeChatMessage(channel.id, { n: name });
      assert.deepEqual(numbers(await client.listChannelMessages(outsider, channel.id, 1)), [name]);
    }
    talker.socket.disconnect();
  });
});

describe('bad frames', () => {
  /** Opens a bare socket, sends, and gives the code it is closed with. */
  async function closeCode(frame) {
    const { token } = await signIn('alice');
    const socket = new WebSocket(`ws://${server.host}:${server.port}/ws?token=${token}&format=${formatName}`);
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
