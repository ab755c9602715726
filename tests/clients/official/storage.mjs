// Storage objects: written, read, listed and deleted by the official client, which turns values into JSON and back.

import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { UNKNOWN, assert, client, moment, refused, strangers } from './harness.mjs';

const [HIDDEN, OWNER, PUBLIC] = [0, 1, 2];

const version = (value) => createHash('md5').update(JSON.stringify(value)).digest('hex');
const keys = ({ objects }) => objects.map((object) => object.key);
const remove = (session, ...object_ids) => client.deleteStorageObjects(session, { object_ids });
const read = async (session, ...object_ids) => (await client.readStorageObjects(session, { object_ids })).objects;

describe('storage objects', () => {
  test('come back as they were written', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const picture = { url: 'https://example.org/Ä.png', size: [1, 2.5], 'a "quoted" \\ name\n': null };
    const { acks } = await client.writeStorageObjects(ada, [
      { collection: 'profile', key: 'picture', value: picture, permission_read: PUBLIC },
      { collection: 'settings', key: 'a key/with ünusual? characters', value: { dark: true } },
    ]);
    assert.deepEqual(acks.map(({ collection, user_id }) => [collection, user_id]), [['profile', ada.user_id], ['settings', ada.user_id]]);
    assert.deepEqual(acks.map((ack) => ack.version), [version(picture), version({ dark: true })]);
    const [found] = await read(bob, { collection: 'profile', key: 'picture', user_id: ada.user_id });
    assert.deepEqual(found.value, picture);
    assert.deepEqual([found.user_id, found.permission_read, found.permission_write, found.version], [ada.user_id, PUBLIC, 1, version(picture)]);
    assert.equal(moment(found.create_time) % 1000, 0, 'in whole seconds');
    const own = { collection: 'settings', key: 'a key/with ünusual? characters', user_id: ada.user_id };
    assert.equal((await read(ada, own))[0].permission_read, OWNER, 'if nothing is said');
    assert.deepEqual(await read(bob, own), [], 'what one may not read is left out');
    assert.deepEqual(await read(bob, { ...own, user_id: UNKNOWN }), []);
    assert.deepEqual(await read(ada), []);
  });

  test('are changed under the condition of a version', async () => {
    const [ada] = await strangers('ada');
    const put = (value, condition) => client.writeStorageObjects(ada, [{ collection: 'c', key: 'unread', value, version: condition }]);
    const first = { messages: 1 };
    await refused(put(first, version(first)), 400, 3);
    const { acks: [created] } = await put(first, '*');
    await refused(put({ messages: 2 }, '*'), 400, 3);
    const { acks: [changed] } = await put({ messages: 2 }, created.version);
    await refused(put({ messages: 3 }, created.version), 400, 3);
    assert.equal(moment(changed.create_time), moment(created.create_time));
    assert.ok(moment(changed.update_time) >= moment(created.update_time));

    // Of many that build on one version, one wins.
    const racers = Array.from({ length: 20 }, (_, number) => put({ racer: number }, changed.version));
    const outcomes = await Promise.allSettled(racers);
    const won = outcomes.filter(({ status }) => status === 'fulfilled').map(({ value }) => value.acks[0].version);
    assert.equal(won.length, 1);
    const [kept] = await read(ada, { collection: 'c', key: 'unread', user_id: ada.user_id });
    assert.equal(kept.version, won[0]);

    await refused(remove(ada, { collection: 'c', key: 'unread', version: changed.version }), 400, 3);
    assert.equal(await remove(ada, { collection: 'c', key: 'unread', version: kept.version }), true);
    await refused(remove(ada, { collection: 'c', key: 'unread' }), 400, 3);
  });

  test('are written and deleted all, or none', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const object = (key, more) => ({ collection: 'c', key, value: {}, ...more });
    await client.writeStorageObjects(ada, [object('fixed', { permission_write: 0 }), object('free')]);
    await refused(client.writeStorageObjects(ada, [object('new'), object('fixed')]), 400, 3);
    await refused(client.writeStorageObjects(ada, [object('new'), object('other', { permission_read: 3 })]), 400, 3);
    await refused(client.writeStorageObjects(ada, [object('new'), object('')]), 400, 3);
    await refused(client.writeStorageObjects(ada, [object('new'), object('text', { value: 'no object' })]), 400, 3);
    await refused(remove(ada, { collection: 'c', key: 'free' }, { collection: 'c', key: 'fixed' }), 400, 3);
    await refused(remove(bob, { collection: 'c', key: 'free' }), 400, 3);
    assert.deepEqual(keys(await client.listStorageObjects(ada, 'c', ada.user_id, 100)), ['fixed', 'free']);
  });

  test('are listed page by page', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const collection = `of ${ada.user_id}`;
    for (const [session, name] of [[ada, 'a'], [bob, 'b']]) {
      const objects = [OWNER, PUBLIC, HIDDEN].flatMap((permission_read) => [3, 1, 2].map((number) => (
        { collection, key: `${name}${permission_read}${number}`, value: { number }, permission_read })));
      await client.writeStorageObjects(session, objects);
    }
    const whole = async (session, owner, limit) => {
      let [all, cursor] = [[], undefined];
      do {
        const page = await client.listStorageObjects(session, collection, owner, limit, cursor);
        all = all.concat(keys(page));
        cursor = page.cursor;
      } while (cursor);
      return all;
    };
    for (const limit of [1, 2, 100]) {
      assert.deepEqual(await whole(ada, ada.user_id, limit), ['a11', 'a12', 'a13', 'a21', 'a22', 'a23']);
      assert.deepEqual(await whole(bob, ada.user_id, limit), ['a21', 'a22', 'a23']);
      assert.deepEqual(await whole(bob, undefined, limit), ['a21', 'a22', 'a23', 'b21', 'b22', 'b23']);
    }
    assert.deepEqual(keys(await client.listStorageObjects(ada, collection, ada.user_id)), ['a11'], 'one, if nothing is said');
    assert.deepEqual((await client.listStorageObjects(ada, collection, UNKNOWN, 10)).objects, []);
    const { cursor } = await client.listStorageObjects(ada, collection, ada.user_id, 2);
    await refused(client.listStorageObjects(bob, collection, ada.user_id, 2, cursor), 400, 3);
    await refused(client.listStorageObjects(ada, collection, ada.user_id, 0), 400, 3);
    await refused(client.listStorageObjects(ada, collection, ada.user_id, 101), 400, 3);
    await refused(client.listStorageObjects(ada, collection, 'nobody', 10), 400, 3);
  });

  test('end with their account', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    await client.writeStorageObjects(ada, [{ collection: 'profile', key: 'ended', value: {}, permission_read: PUBLIC }]);
    await client.deleteAccount(ada);
    assert.deepEqual(await read(bob, { collection: 'profile', key: 'ended', user_id: ada.user_id }), []);
    assert.deepEqual((await client.listStorageObjects(bob, 'profile', ada.user_id, 10)).objects, []);
  });
});
