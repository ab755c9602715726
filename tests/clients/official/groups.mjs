// Groups: making, changing, finding and deleting them.

import { describe, test } from 'node:test';
import {
  GROUP, UNKNOWN, assert, client, disconnect, moment, people, refused, rejected, strangers, wholeHistory, wholeListing,
} from './harness.mjs';

/** The client's own listing has no filter but the name; what it is generated from has. */
async function found(session, { name, langTag, members, open, limit = 100, cursor }) {
  const page = await client.apiClient.listGroups(session.token, name, cursor, limit, langTag, members, open);
  return (page.groups ?? []).map((group) => group.name);
}

describe('groups', () => {
  test('are made with all their fields, or by name alone', async () => {
    const [ada] = await strangers('ada');
    const fields = {
      name: `Chess of ${ada.username}`, description: 'slow games', lang_tag: 'de', avatar_url: 'chess.png', open: true, max_count: 7,
    };
    const group = await client.createGroup(ada, fields);
    assert.match(group.id, /^[0-9a-f-]{36}$/);
    for (const [name, value] of Object.entries(fields)) assert.equal(group[name], value, name);
    assert.equal(group.creator_id, ada.user_id);
    assert.equal(group.edge_count, 1);
    assert.deepEqual(group.metadata, {});
    assert.equal(group.create_time, group.update_time);
    assert.equal(moment(group.create_time) % 1000, 0, 'in whole seconds');

    const plain = await client.createGroup(ada, { name: `plain of ${ada.username}` });
    assert.deepEqual([plain.open, plain.max_count, plain.lang_tag, plain.edge_count], [false, 100, 'en', 1]);
    assert.deepEqual([plain.description, plain.avatar_url], [undefined, undefined]);
    const members = await client.listGroupUsers(ada, plain.id);
    assert.deepEqual(members.group_users.map((m) => [m.user.id, m.user.username, m.state]), [[ada.user_id, ada.username, 0]]);
  });

  test('have names that are nobody else\'s', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const name = `Rare ${ada.username}`;
    const group = await client.createGroup(ada, { name });
    await refused(client.createGroup(bob, { name }), 409, 6);
    await refused(client.createGroup(ada, { name }), 409, 6);
    const lower = await client.createGroup(bob, { name: name.toLowerCase() });
    assert.notEqual(lower.id, group.id, 'case makes a difference');
    await refused(client.createGroup(bob, {}), 400, 3);
    await refused(client.createGroup(bob, { name: '' }), 400, 3);
    await refused(client.createGroup(bob, { name: `less ${name}`, max_count: -1 }), 400, 3);
    assert.deepEqual(await found(bob, { name: `less ${name}` }), []);
    assert.deepEqual((await found(bob, { name })).toSorted(), [name, name.toLowerCase()], 'and none to those who look for them');
  });

  test('are changed by their admins', async () => {
    const [ada, bob, cleo] = await strangers('ada', 'bob', 'cleo');
    const group = await client.createGroup(ada, { name: `old ${ada.username}`, description: 'old', avatar_url: 'old.png' });
    await client.addGroupUsers(ada, group.id, [bob.user_id, cleo.user_id]);
    await client.promoteGroupUsers(ada, group.id, [bob.user_id]);
    const state = async () => (await client.listUserGroups(ada, ada.user_id)).user_groups.find((g) => g.group.id === group.id).group;
    const before = await state();

    for (const stranger of [cleo, (await strangers('dora'))[0]]) {
      await refused(client.updateGroup(stranger, group.id, { description: 'stolen' }), 404, 5);
    }
    await refused(client.updateGroup(ada, UNKNOWN, { description: 'x' }), 404, 5);
    await refused(client.updateGroup(ada, group.id, {}), 400, 3);
    await refused(client.updateGroup(ada, group.id, { name: '' }), 400, 3);
    await refused(client.updateGroup(ada, group.id, { lang_tag: '' }), 400, 3);
    const other = await client.createGroup(cleo, { name: `other ${ada.username}` });
    await refused(client.updateGroup(ada, group.id, { name: other.name, description: 'half' }), 400, 3);
    assert.deepEqual(await state(), before, 'nothing has changed');

    const name = `new ${ada.username}`;
    assert.equal(await client.updateGroup(bob, group.id, { name, lang_tag: 'fr', open: true }), true);
    const after = await state();
    assert.deepEqual([after.name, after.lang_tag, after.open], [name, 'fr', true]);
    assert.deepEqual([after.description, after.avatar_url, after.max_count], ['old', 'old.png', 100], 'the rest stays');
    await client.updateGroup(ada, group.id, { name, description: '', avatar_url: '' });
    const cleared = await state();
    assert.deepEqual([cleared.name, cleared.description, cleared.avatar_url], [name, undefined, undefined]);
    const successor = await client.createGroup(cleo, { name: `old ${ada.username}` });
    assert.ok(successor.id, 'the old name is free');
    assert.deepEqual(await found(ada, { name }), [name]);
  });

  test('are deleted by a superadmin alone, and their channel with them', async () => {
    const [ada, bob, cleo] = await people('ada', 'bob', 'cleo');
    const group = await client.createGroup(ada.session, { name: `short-lived ${ada.name}`, open: true });
    await client.joinGroup(bob.session, group.id);
    await client.joinGroup(cleo.session, group.id);
    await client.promoteGroupUsers(ada.session, group.id, [bob.id]);
    const [{ id }] = await Promise.all([ada, bob].map((one) => one.socket.joinChat(group.id, GROUP, true, false)));
    await cleo.socket.joinChat(group.id, GROUP, true, true);
    const ack = await bob.socket.writeChatMessage(id, { last: 'words' });
    await ada.message(ack.message_id);
    for (const one of [bob, cleo]) await refused(client.deleteGroup(one.session, group.id), 400, 3);
    await refused(client.deleteGroup(ada.session, UNKNOWN), 400, 3);
    assert.equal((await wholeHistory(id, bob.session)).at(-1).message_id, ack.message_id);

    const heard = [ada, bob, cleo].map((one) => one.messages.length);
    assert.equal(await client.deleteGroup(ada.session, group.id), true);
    for (const one of [ada, bob, cleo]) {
      await rejected(one, one.socket.writeChatMessage(id, { anybody: 'there?' }));
      await rejected(one, one.socket.joinChat(group.id, GROUP, true, false));
      await refused(client.listChannelMessages(one.session, id, 10), 400, 3);
      assert.deepEqual((await client.listUserGroups(one.session, one.id)).user_groups, []);
      await refused(client.joinGroup(one.session, group.id), 404, 5);
      await one.caughtUp();
      assert.deepEqual(one.gone, [], 'nobody is told of a leave');
    }
    assert.deepEqual([ada, bob, cleo].map((one) => one.messages.length), heard, 'nor of anything else');
    assert.deepEqual((await client.listGroupUsers(ada.session, group.id)).group_users, []);
    assert.deepEqual(await found(ada.session, { name: group.name }), []);
    assert.equal((await client.createGroup(bob.session, { name: group.name })).edge_count, 1, 'the name is free');
    disconnect(ada, bob, cleo);
  });
});

describe('finding groups', () => {
  test('by name, without regard to case, page by page', async () => {
    const [ada] = await strangers('ada');
    const mark = `finding-${ada.username}`;
    const names = ['Alpha', 'beta', 'Gamma', 'delta', 'Epsilon'].map((name) => `${mark} ${name}`);
    for (const name of names) await client.createGroup(ada, { name });
    const sorted = names.toSorted((one, two) => (one.toLowerCase() < two.toLowerCase() ? -1 : 1));
    for (const limit of [1, 2, 5, 100]) {
      const all = await wholeListing((size, cursor) => client.listGroups(ada, `${mark}%`, cursor, size), 'groups', limit);
      assert.deepEqual(all.map((group) => group.name), sorted, `${limit} a page`);
    }
    assert.equal((await client.listGroups(ada, `${mark}%`)).groups.length, 1, 'one, if nothing is said');
    assert.deepEqual(await found(ada, { name: `${mark} BETA` }), [`${mark} beta`]);
    assert.deepEqual(await found(ada, { name: `  %${mark.toUpperCase()}%A` }), sorted.filter((name) => name.endsWith('a')));
    assert.deepEqual(await found(ada, { name: mark }), [], 'a name is not the beginning of a name');
    const [group] = (await client.listGroups(ada, `${mark} alpha`)).groups;
    assert.deepEqual([group.name, group.creator_id, group.edge_count], [`${mark} Alpha`, ada.user_id, 1]);

    const { cursor } = await client.listGroups(ada, `${mark}%`, undefined, 2);
    await refused(client.listGroups(ada, `${mark} %`, cursor, 2), 400, 3);
    await refused(client.listGroups(ada, `${mark}%`, 'forged', 2), 400, 3);
    await refused(client.listGroups(ada, `${mark}%`, undefined, 0), 400, 3);
    await refused(client.listGroups(ada, `${mark}%`, undefined, 101), 400, 3);
  });

  test('by language, openness and size', async () => {
    const [ada, bob, cleo] = await strangers('ada', 'bob', 'cleo');
    const mark = `x-${ada.username.split('-')[1]}`;
    const make = (name, fields) => client.createGroup(ada, { name: `${mark} ${name}`, lang_tag: mark, ...fields });
    const [open, large, closed] = [await make('open', { open: true }), await make('large', { open: true }), await make('closed')];
    await client.createGroup(ada, { name: `${mark} elsewhere`, lang_tag: 'nowhere', open: true });
    for (const one of [bob, cleo]) await client.joinGroup(one, large.id);
    assert.deepEqual(await found(bob, { langTag: mark }), [closed, large, open].map((group) => group.name));
    assert.deepEqual(await found(bob, { langTag: mark, open: true }), [large.name, open.name]);
    assert.deepEqual(await found(bob, { langTag: mark, open: false }), [closed.name]);
    assert.deepEqual(await found(bob, { langTag: mark, members: 2 }), [closed.name, open.name]);
    assert.deepEqual(await found(bob, { langTag: mark, members: 3, open: true }), [large.name, open.name]);
    assert.deepEqual(await found(bob, { langTag: mark, members: 2, open: true }), [open.name]);
    for (const further of [{ langTag: mark }, { members: 5 }, { open: true }]) {
      await refused(found(bob, { name: mark, ...further }), 400, 3);
    }
  });
});
