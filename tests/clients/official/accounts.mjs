// Signing in, sessions, and what is kept of a user.

import { describe, test } from 'node:test';
import { Session } from '@heroiclabs/nakama-js';
import {
  Listener, ROOM, assert, client, disconnect, newClient, newSocket, people, refused, signIn, strangers,
} from './harness.mjs';

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
    const stranger = newClient('wrongkey');
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
    const manual = newClient('defaultkey', false);
    await refused(manual.getAccount(refreshed), 401, 16);
    await refused(manual.sessionRefresh(refreshed), 401, 16);
    await refused(manual.getAccount(Session.restore(before, refreshed.refresh_token)), 401, 16);
    const fresh = await signIn('lina');
    assert.equal((await manual.getAccount(fresh)).user.username, 'lina');
  });

  test('names and vars of any script', async () => {
    const texts = ['Zoë', '鶏皮もも', 'who?', 'a>b', '~x', '🎉𝒳', '"quoted" \\ /', 'ÿþý'];
    const vars = Object.fromEntries(texts.map((text, n) => [text, texts.at(-1 - n)]));
    for (const [n, name] of texts.entries()) {
      const session = await client.authenticateCustom(`custom-id-of-any-script-${n}`, true, name, vars);
      const check = ({ username, user_id, vars: found }) =>
        assert.deepEqual([username, user_id, found], [name, session.user_id, vars]);
      assert.match(session.user_id, /^[0-9a-f-]{36}$/);
      check(session);
      check(Session.restore(session.refresh_token, session.refresh_token));
      const refreshed = await client.sessionRefresh(session);
      check(refreshed);
      check(Session.restore(refreshed.refresh_token, refreshed.refresh_token));
      const listener = await Listener.connect(refreshed);
      assert.equal((await listener.socket.joinChat('any script', ROOM, true, false)).self.username, name);
      listener.disconnect();
    }
  });

  test('the largest vars open a socket', async () => {
    const room = 2048 - '{"k":""}'.length;
    for (const k of ['?'.repeat(room), 'é'.repeat(room / 2), '🎉'.repeat(room / 4)]) {
      const session = await client.authenticateCustom('custom-id-with-large-vars', true, 'large vars', { k });
      assert.deepEqual(session.vars, { k });
      const refreshed = await client.sessionRefresh(session);
      assert.deepEqual(refreshed.vars, { k });
      assert.equal((await client.getAccount(refreshed)).user.username, 'large vars');
      (await Listener.connect(refreshed)).disconnect();
    }
    await refused(client.authenticateCustom('custom-id-with-large-vars', true, 'large vars', { k: '?'.repeat(room + 1) }), 400, 3);
  });

  test('further ways to sign in', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const [device, custom] = [{ id: `device-of-${ada.username}` }, { id: `another-id-of-${ada.username}` }];
    const email = { email: `${ada.username}@Example.org`, password: 'long enough' };
    for (const times of [1, 2]) assert.equal(await client.linkDevice(ada, device), true, `${times}: one's own again is fine`);
    assert.equal(await client.linkEmail(ada, email), true);
    assert.equal((await client.authenticateDevice(device.id, false)).user_id, ada.user_id);
    assert.equal((await client.authenticateEmail(email.email, email.password, false)).user_id, ada.user_id);
    const account = await client.getAccount(ada);
    assert.deepEqual(account.devices.map((d) => d.id), [device.id]);
    assert.deepEqual([account.email, account.custom_id], [email.email.toLowerCase(), `custom-id-of-${ada.username}`]);

    await refused(client.linkDevice(bob, device), 409, 6);
    await refused(client.linkEmail(bob, { ...email, password: 'another one' }), 409, 6);
    await refused(client.linkCustom(bob, { id: `custom-id-of-${ada.username}` }), 409, 6);
    await refused(client.linkDevice(bob, { id: 'short' }), 400, 3);
    await refused(client.linkEmail(bob, { email: `${bob.username}@example.org`, password: 'short' }), 400, 3);
    await refused(client.unlinkDevice(bob, device), 403, 7);
    assert.equal((await client.authenticateEmail(email.email, email.password, false)).user_id, ada.user_id, 'nothing has changed');
    assert.equal(await client.linkCustom(ada, custom), true);
    assert.equal((await client.authenticateCustom(custom.id, false)).user_id, ada.user_id);

    assert.equal(await client.unlinkCustom(ada, custom), true);
    assert.equal(await client.unlinkEmail(ada, email), true);
    await refused(client.unlinkEmail(ada, email), 403, 7);
    for (const unnamed of [{}, { id: '' }]) assert.equal(await client.unlinkCustom(ada, unnamed), true, 'there is none');
    await refused(client.unlinkDevice(ada, {}), 400, 3);
    await refused(client.unlinkDevice(ada, device), 403, 7);
    await refused(client.authenticateCustom(custom.id, false), 404, 5);
    await refused(client.authenticateEmail(email.email, email.password, false), 404, 5);
    assert.equal((await client.authenticateDevice(device.id, false)).user_id, ada.user_id, 'the last stays');
    const left = await client.getAccount(ada);
    assert.deepEqual([left.devices.map((d) => d.id), left.email, left.custom_id], [[device.id], undefined, undefined]);
    assert.equal(await client.linkEmail(bob, email), true, 'what was unlinked is free');
    assert.equal(await client.unlinkEmail(bob, {}), true, 'there is only one');
    await refused(client.authenticateEmail(email.email, email.password, false), 404, 5);
    await refused(client.unlinkCustom(bob, {}), 403, 7);
  });

  test('ways to sign in that are not here', async () => {
    const [ada] = await strangers('ada');
    const token = 'a token of another service';
    for (const kind of ['Apple', 'Facebook', 'FacebookInstantGame', 'Google', 'Steam']) {
      await refused(client[`authenticate${kind}`](token, true, 'somebody'), 404, 5);
      await refused(client[`link${kind}`](ada, { token }), 404, 5);
    }
    await refused(client.authenticateGameCenter('bundle', 'player', 'url', 'salt', 'signature', '1', 'somebody'), 404, 5);
    await refused(client.linkGameCenter(ada, { player_id: 'player' }), 404, 5);
  });

  test('logout of one token, and of all', async () => {
    const manual = newClient('defaultkey', false);
    const [one] = await strangers('lena');
    const two = await signIn(one.username);
    assert.equal(await client.sessionLogout(one, one.token, ''), true);
    await refused(manual.getAccount(one), 401, 16);
    await refused(manual.sessionRefresh(one), 401, 16);
    assert.equal((await manual.getAccount(two)).user.id, one.user_id, 'the other token is another');
    const refreshed = await manual.sessionRefresh(two);
    const open = await Listener.connect(refreshed);
    assert.equal(await manual.sessionLogout(refreshed, '', ''), true);
    await refused(manual.getAccount(refreshed), 401, 16);
    await refused(manual.sessionRefresh(refreshed), 401, 16);
    await assert.rejects(newSocket().connect(refreshed, false).catch(() => { throw new Error('refused'); }), /refused/);
    assert.ok((await open.socket.send({ ping: {} })).pong, 'open sockets stay');
    open.disconnect();
  });

  test('logouts of all tokens within a second', async () => {
    const manual = newClient('defaultkey', false);
    const [{ username }] = await strangers('leonie');
    const sessions = [];
    for (let n = 0; n < 20; n += 1) {
      const session = await signIn(username);
      sessions.push(session, await manual.sessionRefresh(await signIn(username)));
      assert.equal((await manual.getAccount(session)).user.username, username, 'works at once');
      assert.equal(await manual.sessionLogout(session, '', ''), true);
      for (const gone of sessions.slice(-2)) {
        await refused(manual.getAccount(gone), 401, 16);
        await refused(manual.sessionRefresh(Session.restore(gone.token, gone.refresh_token)), 401, 16);
      }
    }
    for (const gone of sessions) await refused(manual.getAccount(gone), 401, 16);
    (await Listener.connect(await signIn(username))).disconnect();
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

  test('a new name reaches new sessions, and neither open ones nor what was said', async () => {
    const [ada, bob] = await people('ada', 'bob');
    const room = `names of ${ada.name}`;
    const { id } = await ada.socket.joinChat(room, ROOM, true, false);
    await bob.socket.joinChat(room, ROOM, true, false);
    const [old, name] = [ada.name, `${ada.name}-anew`];
    const before = await ada.socket.writeChatMessage(id, { before: true });
    const renamed = await signIn(old);
    assert.equal(await client.updateAccount(renamed, { username: old }), true, 'the present name is fine');
    assert.equal(await client.updateAccount(renamed, { username: name }), true);
    const after = await ada.socket.writeChatMessage(id, { after: true });
    assert.deepEqual([before.username, after.username, (await bob.message(after.message_id)).username], [old, old, old]);
    const refreshed = await client.sessionRefresh(renamed);
    assert.equal(refreshed.username, name);
    const again = await Listener.connect(refreshed);
    assert.equal((await again.socket.joinChat(room, ROOM, true, false)).self.username, name);
    const anew = await again.socket.writeChatMessage(id, { anew: true });
    assert.equal((await bob.message(anew.message_id)).username, name);
    const { messages } = await client.listChannelMessages(bob.session, id, 10);
    assert.deepEqual(messages.map((m) => m.username), [old, old, name]);
    assert.deepEqual((await client.getUsers(bob.session, [], [old, name])).users.map((u) => u.id), [ada.id]);
    const successor = await client.authenticateCustom(`custom-id-of-another-${old}`, true, old);
    assert.equal(successor.username, old, 'the old name is free');
    disconnect(ada, bob, again);
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
