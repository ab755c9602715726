// A client of gRPC that others wrote calls every method of the schema, and compares what it hears with REST.
//
// Run by tests/tests/grpc; by hand: STENTOR_BIN=target/release/stentor node grpc.mjs

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { Client, Metadata, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Server, within } from './server.mjs';

const root = resolve(import.meta.dirname, '../..');
const { nakama, grpc: { health: { v1: health } } } = loadPackageDefinition(loadSync(['nakama.proto', 'health.proto'], {
  keepCase: true, longs: Number, enums: Number, includeDirs: [join(root, 'gateway/proto'), join(root, 'engine/proto')],
}));
const NOBODY = '00000000-0000-4000-8000-000000000000';
const PROGRAM = `Basic ${Buffer.from('defaultkey:').toString('base64')}`;
const server = new Server();
const called = new Set();
const people = {};
let [client, balancer] = [];

before(async () => {
  await server.start();
  const [, address] = /^ *grpc +(\S+)/m.exec(server.said());
  const directory = process.env.STENTOR_TEST_TLS;
  const secured = () => credentials.createSsl(readFileSync(join(directory, 'cert.pem')));
  const channel = [address, server.secured ? secured() : credentials.createInsecure()];
  client = new nakama.api.Nakama(...channel, { 'grpc.max_receive_message_length': 8 << 20 });
  balancer = new health.Health(...channel);
  for (const name of ['alice', 'bob', 'carol']) {
    const { account, session } = await signIn(name);
    people[name] = { account, session, id: account.user.id, as: `Bearer ${session.token}` };
  }
});

after(() => {
  client.close();
  balancer.close();
});

/** The answer of a call, or its refusal: `{ code, text, metadata }`. */
function call(method, request = {}, authorization = undefined, more = {}) {
  called.add(method);
  const metadata = new Metadata();
  if (authorization) metadata.set('authorization', authorization);
  const options = { deadline: Date.now() + 20_000, ...more };
  return new Promise((heard) => {
    client[method](request, metadata, options, (error, answer) => {
      heard(error ? { code: error.code, text: error.details, metadata: error.metadata } : plain(answer));
    });
  });
}

/** The same, which must not be refused. */
async function ok(method, request, authorization) {
  const answer = await call(method, request, authorization);
  assert.equal(answer.code, undefined, `${method}: ${answer.text}`);
  return answer;
}

/** The answer of REST, or its refusal. */
async function rest(target, authorization, body) {
  const [method, path] = target.split(' ');
  const headers = authorization ? { authorization } : {};
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const answer = await within(fetchFromServer(path, { method, headers, body: sent }), target);
  const json = JSON.parse(answer.text);
  return answer.status === 200 ? plain(json) : { code: json.code, text: json.message };
}

/** A request over HTTP/1.1, also where the certificate is the test's own. */
async function fetchFromServer(path, { method, headers, body }) {
  const { request } = await import(server.secured ? 'node:https' : 'node:http');
  return new Promise((heard, failed) => {
    const sent = request(`${server.origin}${path}`, { method, headers, rejectUnauthorized: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (more) => { text += more; });
      answer.on('end', () => heard({ status: answer.statusCode, text }));
    });
    sent.on('error', failed);
    sent.end(body);
  });
}

/** What a wrapped value is if the message that wraps it is empty. */
const ZEROS = { state: 0, open: false, code: 0, persistent: false };

/** An object in one form, whether it came as JSON or as a message: without what is not set, times in milliseconds. */
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'string' && /^\d{4}-\d\d-\d\dT/.test(value)) return Date.parse(value);
  if (value === null || typeof value !== 'object') return value;
  if ('seconds' in value) return value.seconds * 1000 + Math.floor((value.nanos ?? 0) / 1e6);
  if (Object.keys(value).join() === 'value') return value.value;
  const members = Object.entries(value).filter(([, of]) => of !== null && of !== undefined);
  const isZero = ([name, of]) => name in ZEROS && typeof of === 'object' && Object.keys(of).length === 0;
  return Object.fromEntries(members.map(([name, of]) => [name, isZero([name, of]) ? ZEROS[name] : plain(of)]));
}

async function signIn(name) {
  const session = await ok('AuthenticateDevice', {
    account: { id: `device-of-${name}` }, create: { value: true }, username: name,
  }, PROGRAM);
  return { session, account: await ok('GetAccount', {}, `Bearer ${session.token}`) };
}

/** What both say to the same question. */
async function same(method, request, authorization, target, body) {
  const [heard, expected] = [await call(method, request, authorization), await rest(target, authorization, body)];
  assert.deepEqual({ code: heard.code, text: heard.text }, { code: expected.code, text: expected.text }, `${method}: ${target}`);
  if (expected.code === undefined) assert.deepEqual(heard, expected, `${method}: ${target}`);
  return heard;
}

test('signing in, renewing and logging out', async () => {
  const custom = await ok('AuthenticateCustom', { account: { id: 'custom-of-dave', vars: { from: 'test' } }, username: 'dave' }, PROGRAM);
  assert.equal(custom.created, true);
  const renewed = await ok('SessionRefresh', { token: custom.refresh_token, vars: { from: 'elsewhere' } }, PROGRAM);
  const as = `Bearer ${renewed.token}`;
  const claims = JSON.parse(Buffer.from(renewed.token.split('.')[1], 'base64url'));
  assert.deepEqual([claims.usn, claims.vrs], ['dave', { from: 'elsewhere' }]);
  await ok('LinkEmail', { email: 'dave@example.org', password: 'a good secret' }, as);
  const email = { email: 'dave@example.org', password: 'a good secret' };
  assert.ok(!(await ok('AuthenticateEmail', { account: email, create: { value: false } }, PROGRAM)).created);
  await ok('LinkDevice', { id: 'device-of-dave' }, as);
  await ok('UnlinkCustom', { id: 'custom-of-dave' }, as);
  await ok('LinkCustom', { id: 'custom-of-dave' }, as);
  await ok('UnlinkDevice', { id: 'device-of-dave' }, as);
  await ok('UnlinkEmail', email, as);
  await ok('SessionLogout', { token: renewed.token, refresh_token: renewed.refresh_token }, as);
  assert.deepEqual(await call('GetAccount', {}, as).then(({ code, text }) => ({ code, text })), { code: 16, text: 'token logged out' });
});

test('accounts and users', async () => {
  const { alice, bob } = people;
  await ok('UpdateAccount', { display_name: { value: 'Älice' }, location: { value: '' }, timezone: { value: 'UTC' } }, alice.as);
  await same('GetAccount', {}, alice.as, 'GET /v2/account');
  const users = await same('GetUsers', { ids: [alice.id], usernames: ['bob'] }, bob.as, `GET /v2/user?ids=${alice.id}&usernames=bob`);
  assert.deepEqual(users.users.map((user) => user.username).sort(), ['alice', 'bob']);
});

test('friends', async () => {
  const { alice, bob, carol } = people;
  await ok('AddFriends', { ids: [bob.id], usernames: ['carol'], metadata: '{"met":"at Ü"}' }, alice.as);
  await ok('AddFriends', { usernames: ['alice'] }, bob.as);
  const [noted] = (await ok('ListFriends', { state: { value: 0 } }, alice.as)).friends;
  assert.deepEqual([noted.user.id, noted.metadata], [bob.id, '{"met":"at Ü"}']);
  await ok('BlockFriends', { ids: [alice.id] }, carol.as);
  for (const state of [undefined, 0, 1, 3]) {
    const query = state === undefined ? '' : `&state=${state}`;
    const request = { limit: { value: 10 }, state: state === undefined ? undefined : { value: state } };
    await same('ListFriends', request, alice.as, `GET /v2/friend?limit=10${query}`);
    await same('ListFriends', request, carol.as, `GET /v2/friend?limit=10${query}`);
  }
  await ok('DeleteFriends', { usernames: ['bob'] }, alice.as);
  assert.deepEqual((await ok('ListFriends', {}, bob.as)).friends ?? [], []);
});

test('groups and their members', async () => {
  const { alice, bob, carol } = people;
  const group = await ok('CreateGroup', { name: 'readers', description: 'of books', lang_tag: 'de', open: false, max_count: 9 }, alice.as);
  const { id } = group;
  await ok('UpdateGroup', { group_id: id, description: { value: 'of many books' } }, alice.as);
  const groups = await same('ListGroups', { name: 'read%', limit: { value: 10 } }, bob.as, 'GET /v2/group?name=read%25&limit=10');
  assert.deepEqual(groups.groups.map((one) => one.description), ['of many books']);
  await ok('JoinGroup', { group_id: id }, bob.as);
  await ok('AddGroupUsers', { group_id: id, user_ids: [bob.id, carol.id] }, alice.as);
  await ok('PromoteGroupUsers', { group_id: id, user_ids: [bob.id] }, alice.as);
  await same('ListGroupUsers', { group_id: id, limit: { value: 10 } }, alice.as, `GET /v2/group/${id}/user?limit=10`);
  const first = await same('ListGroupUsers', { group_id: id, limit: { value: 1 } }, alice.as, `GET /v2/group/${id}/user?limit=1`);
  const request = { group_id: id, limit: { value: 1 }, cursor: first.cursor };
  await same('ListGroupUsers', request, alice.as, `GET /v2/group/${id}/user?limit=1&cursor=${encodeURIComponent(first.cursor)}`);
  await same('ListUserGroups', { user_id: bob.id, state: { value: 1 } }, alice.as, `GET /v2/user/${bob.id}/group?state=1`);
  await ok('DemoteGroupUsers', { group_id: id, user_ids: [bob.id] }, alice.as);
  await ok('KickGroupUsers', { group_id: id, user_ids: [carol.id] }, alice.as);
  await ok('LeaveGroup', { group_id: id }, bob.as);
  await ok('BanGroupUsers', { group_id: id, user_ids: [carol.id] }, alice.as);
  const history = await same('ListChannelMessages', { channel_id: `3.${id}..`, limit: { value: 100 }, forward: { value: true } }, alice.as,
    `GET /v2/channel/3.${id}..?limit=100&forward=true`);
  assert.ok(history.messages.length > 2, 'the group has told what happened');
  const page = await same('ListChannelMessages', { channel_id: `3.${id}..`, limit: { value: 2 } }, alice.as, `GET /v2/channel/3.${id}..?limit=2`);
  await same('ListChannelMessages', { channel_id: `3.${id}..`, limit: { value: 2 }, cursor: page.next_cursor }, alice.as,
    `GET /v2/channel/3.${id}..?limit=2&cursor=${encodeURIComponent(page.next_cursor)}`);
  await ok('DeleteGroup', { group_id: id }, alice.as);
  assert.deepEqual((await ok('ListGroups', { name: 'readers' }, bob.as)).groups ?? [], []);
});

test('notifications', async () => {
  const { bob } = people;
  const { notifications } = await same('ListNotifications', { limit: { value: 100 } }, bob.as, 'GET /v2/notification?limit=100');
  assert.ok(notifications.length > 0, 'bob was told of the group');
  await ok('DeleteNotifications', { ids: notifications.map((one) => one.id) }, bob.as);
  assert.deepEqual((await ok('ListNotifications', {}, bob.as)).notifications ?? [], []);
});

test('storage objects', async () => {
  const { alice, bob } = people;
  const object = { collection: 'c/1', key: 'k', value: '{"a":1}', permission_read: { value: 2 }, permission_write: { value: 0 } };
  const own = { collection: 'c/1', key: 'own', value: '{}', version: '*' };
  const { acks } = await ok('WriteStorageObjects', { objects: [object, own] }, bob.as);
  assert.deepEqual(acks.map((ack) => [ack.key, ack.user_id]), [['k', bob.id], ['own', bob.id]]);
  const body = { objects: [own] };
  await same('WriteStorageObjects', body, bob.as, 'PUT /v2/storage', body);
  const ids = { object_ids: [{ collection: 'c/1', key: 'k', user_id: bob.id }, { collection: 'c/1', key: 'own', user_id: bob.id }] };
  const { objects } = await same('ReadStorageObjects', ids, alice.as, 'POST /v2/storage', ids);
  assert.deepEqual(objects.map((one) => [one.key, one.value]), [['k', '{"a":1}']]);
  const page = await same('ListStorageObjects', { collection: 'c/1', user_id: bob.id, limit: { value: 1 } }, bob.as,
    `GET /v2/storage/c%2F1/${bob.id}?limit=1`);
  await same('ListStorageObjects', { collection: 'c/1', user_id: bob.id, limit: { value: 1 }, cursor: page.cursor }, bob.as,
    `GET /v2/storage/c%2F1?user_id=${bob.id}&limit=1&cursor=${encodeURIComponent(page.cursor)}`);
  await same('ListStorageObjects', { collection: 'c/1', limit: { value: 9 } }, alice.as, 'GET /v2/storage/c%2F1?limit=9');
  const deleted = { object_ids: [{ collection: 'c/1', key: 'own', version: acks[1].version }] };
  await ok('DeleteStorageObjects', deleted, bob.as);
  await same('DeleteStorageObjects', deleted, bob.as, 'PUT /v2/storage/delete', deleted);
});

test('events for statistics', async () => {
  const event = { name: 'opened', properties: { screen: 'lobby' }, external: true };
  await same('Event', event, people.bob.as, 'POST /v2/event', event);
  assert.equal((await call('Event', event)).code, 16);
});

test('refusals have the code and the text of REST', async () => {
  const { alice } = people;
  for (const [method, request, as, target, body] of [
    ['AuthenticateDevice', {}, undefined, 'POST /v2/account/authenticate/device', {}],
    ['AuthenticateDevice', {}, 'Basic eDp4', 'POST /v2/account/authenticate/device', {}],
    ['AuthenticateDevice', {}, PROGRAM, 'POST /v2/account/authenticate/device', {}],
    ['AuthenticateDevice', { account: { id: 'no' } }, PROGRAM, 'POST /v2/account/authenticate/device', { id: 'no' }],
    ['AuthenticateCustom', { account: { id: 'nobody-has-this' }, create: { value: false } }, PROGRAM,
      'POST /v2/account/authenticate/custom?create=false', { id: 'nobody-has-this' }],
    ['AuthenticateEmail', { account: { email: 'x' } }, PROGRAM, 'POST /v2/account/authenticate/email', { email: 'x' }],
    ['AuthenticateCustom', { account: { id: 'another-id' }, username: 'alice' }, PROGRAM,
      'POST /v2/account/authenticate/custom?username=alice', { id: 'another-id' }],
    ['SessionRefresh', { token: 'x' }, PROGRAM, 'POST /v2/account/session/refresh', { token: 'x' }],
    ['SessionLogout', { token: 'x' }, alice.as, 'POST /v2/session/logout', { token: 'x' }],
    ['GetAccount', {}, undefined, 'GET /v2/account'],
    ['GetAccount', {}, PROGRAM, 'GET /v2/account'],
    ['GetAccount', {}, 'Bearer x', 'GET /v2/account'],
    ['UpdateAccount', {}, alice.as, 'PUT /v2/account', {}],
    ['UpdateAccount', { username: { value: 'bob' } }, alice.as, 'PUT /v2/account', { username: 'bob' }],
    ['LinkEmail', { email: 'x', password: 'y' }, alice.as, 'POST /v2/account/link/email', { email: 'x', password: 'y' }],
    ['LinkDevice', { id: 'device-of-bob' }, alice.as, 'POST /v2/account/link/device', { id: 'device-of-bob' }],
    ['UnlinkEmail', { email: 'x@y.z' }, alice.as, 'POST /v2/account/unlink/email', { email: 'x@y.z' }],
    ['GetUsers', { ids: ['x'] }, alice.as, 'GET /v2/user?ids=x'],
    ['AddFriends', { ids: [alice.id] }, alice.as, `POST /v2/friend?ids=${alice.id}`],
    ['AddFriends', { ids: [NOBODY], metadata: '[]' }, alice.as, `POST /v2/friend?ids=${NOBODY}&metadata=%5B%5D`],
    ['AddFriends', { usernames: ['nobody at all'] }, alice.as, 'POST /v2/friend?usernames=nobody%20at%20all'],
    ['BlockFriends', { ids: ['x'] }, alice.as, 'POST /v2/friend/block?ids=x'],
    ['ListFriends', { limit: { value: 0 } }, alice.as, 'GET /v2/friend?limit=0'],
    ['ListFriends', { state: { value: 9 } }, alice.as, 'GET /v2/friend?state=9'],
    ['ListFriends', { cursor: 'x' }, alice.as, 'GET /v2/friend?cursor=x'],
    ['CreateGroup', {}, alice.as, 'POST /v2/group', {}],
    ['CreateGroup', { name: 'x', max_count: -1 }, alice.as, 'POST /v2/group', { name: 'x', max_count: -1 }],
    ['UpdateGroup', { group_id: NOBODY, name: { value: 'x' } }, alice.as, `PUT /v2/group/${NOBODY}`, { name: 'x' }],
    ['UpdateGroup', { group_id: NOBODY }, alice.as, `PUT /v2/group/${NOBODY}`, {}],
    ['DeleteGroup', { group_id: NOBODY }, alice.as, `DELETE /v2/group/${NOBODY}`],
    ['JoinGroup', {}, alice.as, 'POST /v2/group//join'],
    ['JoinGroup', { group_id: NOBODY }, alice.as, `POST /v2/group/${NOBODY}/join`],
    ['DemoteGroupUsers', { group_id: NOBODY }, alice.as, `POST /v2/group/${NOBODY}/demote`],
    ['ListGroupUsers', { group_id: 'x/y' }, alice.as, 'GET /v2/group/x%2Fy/user'],
    ['ListUserGroups', { user_id: 'x' }, alice.as, 'GET /v2/user/x/group'],
    ['ListChannelMessages', { channel_id: '2...a', limit: { value: 101 } }, alice.as, 'GET /v2/channel/2...a?limit=101'],
    ['ListChannelMessages', { channel_id: 'ü' }, alice.as, 'GET /v2/channel/%C3%BC'],
    ['ListNotifications', { cacheable_cursor: 'x' }, alice.as, 'GET /v2/notification?cacheable_cursor=x'],
    ['DeleteNotifications', { ids: ['x'] }, alice.as, 'DELETE /v2/notification?ids=x'],
  ]) {
    const { code } = await same(method, request, as, target, body);
    assert.notEqual(code, undefined, `${method} is refused: ${target}`);
  }
});

test('methods of features that the server lacks are unimplemented', async () => {
  const unary = (path, authorization) => new Promise((heard) => {
    const metadata = new Metadata();
    if (authorization) metadata.set('authorization', authorization);
    const empty = () => Buffer.alloc(0);
    Client.prototype.makeUnaryRequest.call(client, path, empty, (bytes) => bytes, {}, metadata, { deadline: Date.now() + 20_000 },
      (error) => heard({ code: error.code, text: error.details }));
  });
  const { as } = people.alice;
  const { text } = await rest('GET /v2/match', as);
  assert.deepEqual(await unary('/nakama.api.Nakama/ListMatches', as), { code: 12, text });
  assert.deepEqual(await unary('/nakama.api.Nakama/ListMatches'), { code: 16, text: (await rest('GET /v2/match')).text });
  const signInText = (await rest('POST /v2/account/authenticate/steam', PROGRAM, {})).text;
  assert.deepEqual(await unary('/nakama.api.Nakama/AuthenticateSteam', PROGRAM), { code: 12, text: signInText });
  assert.deepEqual(await unary('/nakama.api.Nakama/Nothing'), { code: 12, text: 'there is no such method' });
});

test('a compressed call, a deadline, and many calls at a time', async () => {
  const { alice } = people;
  // Nothing takes so little time.
  const late = await call('GetAccount', {}, alice.as, { deadline: Date.now() - 1 });
  assert.equal(late.code, 4);
  // gzip is number 2 in this library.
  const [address] = [client.getChannel().getTarget().replace(/^dns:/, '')];
  if (!server.secured) {
    const compressing = new nakama.api.Nakama(address, credentials.createInsecure(), { 'grpc.default_compression_algorithm': 2 });
    const metadata = new Metadata();
    metadata.set('authorization', alice.as);
    const users = await new Promise((heard, failed) => {
      compressing.GetUsers({ usernames: ['alice', 'bob'] }, metadata, (error, answer) => error ? failed(error) : heard(answer));
    });
    compressing.close();
    assert.equal(users.users.length, 2);
  }
  const accounts = await Promise.all(Array.from({ length: 200 }, () => ok('GetAccount', {}, alice.as)));
  assert.ok(accounts.every((account) => account.user.id === alice.id));
});

test('health', async () => {
  await ok('Healthcheck');
  const answer = await new Promise((heard, failed) => {
    balancer.Check({ service: '' }, (error, answer) => error ? failed(error) : heard(answer));
  });
  assert.equal(answer.status, 1);
});

test('an account ends', async () => {
  const { carol } = people;
  await ok('DeleteAccount', {}, carol.as);
  assert.equal((await call('GetAccount', {}, carol.as)).code, (await rest('GET /v2/account', carol.as)).code);
});

test('every method of the schema was called', () => {
  const methods = Object.values(nakama.api.Nakama.service).map((method) => method.originalName);
  const names = Object.keys(nakama.api.Nakama.service);
  assert.equal(methods.length, names.length);
  assert.deepEqual(names.filter((name) => !called.has(name)), []);
});
