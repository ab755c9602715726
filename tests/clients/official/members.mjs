// Who is in a group: joining, letting in, throwing out, ranks, and the listings of it.

import { describe, test } from 'node:test';
import { UNKNOWN, assert, client, refused, strangers, wholeListing } from './harness.mjs';

const [SUPERADMIN, ADMIN, MEMBER, REQUEST, BANNED] = [0, 1, 2, 3, 4];

/** A new group of `founder`. */
let made = 0;
const group = (founder, fields = {}) => client.createGroup(founder, { name: `members ${(made += 1)}`, open: true, ...fields });

/** How everybody stands to a group, as one of them sees it; bans have to be asked for. */
async function standing(session, id, ...sessions) {
  const listed = [undefined, BANNED].map((state) => client.listGroupUsers(session, id, state));
  const users = (await Promise.all(listed)).flatMap((page) => page.group_users);
  const states = new Map(users.map((member) => [member.user.id, member.state]));
  assert.equal(states.size, users.length, 'nobody is listed twice');
  return sessions.map((one) => states.get(one.user_id));
}

const seats = async (session, id) => {
  const groups = await client.listUserGroups(session, session.user_id);
  return groups.user_groups.find((membership) => membership.group.id === id).group.edge_count;
};

/** The client's own listing mistakes the limit for the state; what it is generated from does not. */
async function groupsOf(session, userId, { state, limit, cursor } = {}) {
  const page = await client.apiClient.listUserGroups(session.token, userId, limit, state, cursor);
  return { user_groups: [], ...page };
}

/** A group with somebody in every rank. */
async function ranked() {
  const people = await strangers('sue', 'sam', 'ada', 'abe', 'meg', 'mel', 'ray');
  const [sue, sam, ada, abe, meg, mel, ray] = people;
  const { id } = await group(sue);
  for (const one of [sam, ada, abe, meg, mel]) await client.joinGroup(one, id);
  // One at a time, because those of one moment have no order that could be known.
  for (const one of [sam, ada, abe, sam]) await client.promoteGroupUsers(sue, id, [one.user_id]);
  await client.updateGroup(sue, id, { open: false });
  await client.joinGroup(ray, id);
  assert.deepEqual(await standing(ray, id, ...people), [0, 0, 1, 1, 2, 2, 3]);
  return { id, people };
}

describe('joining and leaving', () => {
  test('an open group', async () => {
    const [ada, bob] = await strangers('ada', 'bob');
    const { id } = await group(ada);
    assert.equal(await client.joinGroup(bob, id), true);
    assert.deepEqual(await standing(ada, id, ada, bob), [SUPERADMIN, MEMBER]);
    assert.equal(await seats(bob, id), 2);
    assert.equal(await client.joinGroup(bob, id), true, 'again, to no effect');
    assert.equal(await seats(bob, id), 2);
    await refused(client.joinGroup(bob, UNKNOWN), 404, 5);
    assert.equal(await client.leaveGroup(bob, id), true);
    assert.deepEqual(await standing(ada, id, ada, bob), [SUPERADMIN, undefined]);
    assert.equal(await seats(ada, id), 1);
    assert.equal(await client.leaveGroup(bob, id), true, 'again, to no effect');
  });

  test('a closed group', async () => {
    const [ada, bob, cleo, dora] = await strangers('ada', 'bob', 'cleo', 'dora');
    const { id } = await group(ada, { open: false });
    for (const one of [bob, bob, cleo, dora]) await client.joinGroup(one, id);
    assert.deepEqual(await standing(ada, id, bob, cleo, dora), [REQUEST, REQUEST, REQUEST]);
    assert.equal(await seats(ada, id), 1, 'requests take no seats');
    assert.equal(await client.addGroupUsers(ada, id, [bob.user_id]), true);
    await client.kickGroupUsers(ada, id, [cleo.user_id]);
    await client.leaveGroup(dora, id);
    assert.deepEqual(await standing(ada, id, bob, cleo, dora), [MEMBER, undefined, undefined]);
    await client.joinGroup(cleo, id);
    assert.deepEqual(await standing(ada, id, cleo), [REQUEST], 'who was rejected may ask again');
    assert.equal(await seats(ada, id), 2);
  });

  test('a full group', async () => {
    const [ada, bob, cleo] = await strangers('ada', 'bob', 'cleo');
    const { id } = await group(ada, { max_count: 2 });
    await client.joinGroup(bob, id);
    await refused(client.joinGroup(cleo, id), 400, 3);
    await refused(client.joinGroup(bob, id), 400, 3);
    await refused(client.addGroupUsers(ada, id, [cleo.user_id]), 400, 3);
    await client.leaveGroup(bob, id);
    await client.joinGroup(cleo, id);
    await client.updateGroup(ada, id, { open: false });
    await refused(client.joinGroup(bob, id), 400, 3);
    assert.deepEqual(await standing(ada, id, ada, bob, cleo), [SUPERADMIN, undefined, MEMBER]);
  });

  test('the last superadmin stays while there are others; the last of all takes the group along', async () => {
    const [ada, bob, cleo] = await strangers('ada', 'bob', 'cleo');
    const { id, name } = await group(ada, { open: false });
    await client.joinGroup(cleo, id);
    await client.addGroupUsers(ada, id, [bob.user_id]);
    await refused(client.leaveGroup(ada, id), 400, 3);
    await client.promoteGroupUsers(ada, id, [bob.user_id]);
    await refused(client.leaveGroup(ada, id), 400, 3);
    await client.promoteGroupUsers(ada, id, [bob.user_id]);
    assert.equal(await client.leaveGroup(ada, id), true);
    assert.deepEqual(await standing(ada, id, ada, bob, cleo), [undefined, SUPERADMIN, REQUEST]);
    assert.equal(await client.leaveGroup(bob, id), true);
    assert.deepEqual(await standing(ada, id, ada, bob, cleo), [undefined, undefined, undefined]);
    assert.deepEqual((await client.listUserGroups(cleo, cleo.user_id)).user_groups, [], 'requests are gone as well');
    await refused(client.joinGroup(ada, id), 404, 5);
    assert.ok((await client.createGroup(cleo, { name })).id);
  });
});

describe('admins', () => {
  test('add people, all or none', async () => {
    const { id, people: [sue, , ada, , meg, mel, ray] } = await ranked();
    const [one, two, three] = await strangers('one', 'two', 'three');
    for (const nobody of [meg, ray, one]) await refused(client.addGroupUsers(nobody, id, [two.user_id]), 404, 5);
    await refused(client.addGroupUsers(sue, UNKNOWN, [two.user_id]), 404, 5);
    await refused(client.addGroupUsers(sue, id, [one.user_id, UNKNOWN, two.user_id]), 400, 3);
    await refused(client.addGroupUsers(sue, id, [one.user_id, 'nonsense']), 400, 3);
    assert.deepEqual(await standing(sue, id, one, two, ray), [undefined, undefined, REQUEST]);
    await client.banGroupUsers(sue, id, [mel.user_id]);
    assert.equal(await client.addGroupUsers(ada, id, [one, ray, meg, mel, sue, ada].map((s) => s.user_id)), true);
    assert.deepEqual(await standing(sue, id, one, ray, meg, mel, sue, ada), [2, 2, 2, 4, 0, 1]);
    assert.equal(await client.addGroupUsers(sue, id, []), true);

    const small = await group(sue, { max_count: 2 });
    await refused(client.addGroupUsers(sue, small.id, [one.user_id, two.user_id, three.user_id]), 400, 3);
    assert.equal(await seats(sue, small.id), 1, 'none, if there are not seats for all');
    await client.addGroupUsers(sue, small.id, [three.user_id]);
    assert.deepEqual(await standing(sue, small.id, one, two, three), [undefined, undefined, MEMBER]);
  });

  test('kick people, reject requests and lift bans', async () => {
    const { id, people } = await ranked();
    const [sue, sam, ada, abe, meg, mel, ray] = people;
    const [out] = await strangers('out');
    for (const nobody of [meg, ray, out]) await refused(client.kickGroupUsers(nobody, id, [mel.user_id]), 404, 5);
    await refused(client.kickGroupUsers(sue, UNKNOWN, [mel.user_id]), 404, 5);
    assert.equal(await client.kickGroupUsers(ada, id, [sue, sam, abe, ada, out].map((s) => s.user_id)), true);
    assert.deepEqual(await standing(sue, id, ...people), [0, 0, 1, 1, 2, 2, 3], 'admins reach neither admins nor themselves');
    await client.kickGroupUsers(ada, id, [mel.user_id, ray.user_id]);
    assert.deepEqual(await standing(sue, id, ...people), [0, 0, 1, 1, 2, undefined, undefined]);
    await client.kickGroupUsers(sue, id, [sam.user_id, abe.user_id, sue.user_id]);
    assert.deepEqual(await standing(sue, id, ...people), [0, undefined, 1, undefined, 2, undefined, undefined]);
    assert.equal(await seats(sue, id), 3);
    assert.equal(await client.kickGroupUsers(sue, id, []), true);

    await client.banGroupUsers(sue, id, [meg.user_id]);
    await client.kickGroupUsers(ada, id, [meg.user_id]);
    assert.deepEqual(await standing(sue, id, meg), [undefined]);
    await client.joinGroup(meg, id);
    assert.deepEqual(await standing(sue, id, meg), [REQUEST], 'a lifted ban lets one ask again');
  });

  test('ban people', async () => {
    const { id, people } = await ranked();
    const [sue, sam, ada, abe, meg, mel, ray] = people;
    const [out] = await strangers('out');
    for (const nobody of [meg, ray, out]) await refused(client.banGroupUsers(nobody, id, [mel.user_id]), 404, 5);
    assert.equal(await client.banGroupUsers(ada, id, [sue, sam, abe, ada, out].map((s) => s.user_id)), true);
    assert.deepEqual(await standing(sue, id, ...people, out), [0, 0, 1, 1, 2, 2, 3, undefined]);
    await client.banGroupUsers(ada, id, [mel.user_id, ray.user_id]);
    await client.banGroupUsers(sue, id, [sam.user_id, abe.user_id]);
    assert.deepEqual(await standing(sue, id, ...people), [0, 4, 1, 4, 2, 4, 4]);
    assert.equal(await seats(sue, id), 3);
    const listed = await client.listGroupUsers(sue, id);
    assert.deepEqual(listed.group_users.map((m) => m.user.id), [sue.user_id, ada.user_id, meg.user_id], 'not unless asked for');
    assert.deepEqual((await client.listUserGroups(mel, mel.user_id)).user_groups, []);
    const own = (await groupsOf(mel, mel.user_id, { state: BANNED })).user_groups;
    assert.deepEqual(own.map((g) => [g.group.id, g.state]), [[id, BANNED]]);

    await client.updateGroup(sue, id, { open: true });
    for (const one of [mel, ray, sam]) {
      assert.equal(await client.joinGroup(one, id), true);
      assert.equal(await client.leaveGroup(one, id), true);
    }
    assert.deepEqual(await standing(sue, id, mel, ray, sam), [4, 4, 4], 'neither coming nor going ends a ban');
  });

  test('promote up to themselves', async () => {
    const { id, people } = await ranked();
    const [sue, , ada, , meg, mel, ray] = people;
    const [out] = await strangers('out');
    for (const nobody of [meg, ray, out]) await refused(client.promoteGroupUsers(nobody, id, [mel.user_id]), 404, 5);
    await client.banGroupUsers(sue, id, [mel.user_id]);
    await client.promoteGroupUsers(ada, id, people.map((s) => s.user_id));
    assert.deepEqual(await standing(sue, id, ...people), [0, 0, 1, 1, 1, 4, 3]);
    await client.promoteGroupUsers(sue, id, [...people, out].map((s) => s.user_id));
    assert.deepEqual(await standing(sue, id, ...people, out), [0, 0, 0, 0, 0, 4, 3, undefined]);
    await client.promoteGroupUsers(sue, id, []);
  });

  test('demote down from themselves', async () => {
    const { id, people } = await ranked();
    const [sue, sam, ada, , meg, mel, ray] = people;
    const [out] = await strangers('out');
    for (const nobody of [meg, ray, out]) await refused(client.demoteGroupUsers(nobody, id, [mel.user_id]), 404, 5);
    await refused(client.demoteGroupUsers(sue, id, []), 400, 3);
    assert.equal(await client.demoteGroupUsers(ada, id, people.map((s) => s.user_id)), true);
    assert.deepEqual(await standing(sue, id, ...people), [0, 0, 1, 2, 2, 2, 3]);
    await client.demoteGroupUsers(sue, id, [...people, out].map((s) => s.user_id));
    assert.deepEqual(await standing(sue, id, ...people, out), [0, 1, 2, 2, 2, 2, 3, undefined]);
    await client.demoteGroupUsers(sue, id, [sam.user_id]);
    await refused(client.addGroupUsers(sam, id, [out.user_id]), 404, 5);
  });
});

describe('listings of members', () => {
  test('of a group: by rank, then by time, page by page', async () => {
    const { id, people } = await ranked();
    const [sue, sam, ada, abe, meg, mel, ray] = people;
    const order = [sue, sam, ada, abe, meg, mel, ray].map((s) => s.user_id);
    const [outsider] = await strangers('outsider');
    for (const limit of [1, 3, 7, 100]) {
      const list = (size, cursor) => client.listGroupUsers(outsider, id, undefined, size, cursor);
      const all = await wholeListing(list, 'group_users', limit);
      assert.deepEqual(all.map((m) => m.user.id), order, `${limit} a page`);
      assert.deepEqual(all.map((m) => m.state), [0, 0, 1, 1, 2, 2, 3]);
    }
    const whole = await client.listGroupUsers(outsider, id);
    assert.deepEqual([whole.group_users.length, whole.cursor], [7, undefined], 'a hundred, if nothing is said');
    for (const [state, expected] of [[SUPERADMIN, [sue, sam]], [ADMIN, [ada, abe]], [MEMBER, [meg, mel]], [REQUEST, [ray]], [BANNED, []]]) {
      const list = (size, cursor) => client.listGroupUsers(outsider, id, state, size, cursor);
      const all = await wholeListing(list, 'group_users', 1);
      assert.deepEqual(all.map((m) => m.user.id), expected.map((s) => s.user_id), `state ${state}`);
    }
    // Who enters a rank anew stands behind those who are in it.
    await client.demoteGroupUsers(sue, id, [sam.user_id]);
    const admins = await client.listGroupUsers(outsider, id, ADMIN);
    assert.deepEqual(admins.group_users.map((m) => m.user.id), [ada, abe, sam].map((s) => s.user_id));

    const { cursor } = await client.listGroupUsers(outsider, id, undefined, 2);
    await refused(client.listGroupUsers(outsider, id, ADMIN, 2, cursor), 400, 3);
    await refused(client.listGroupUsers(outsider, id, undefined, 2, 'forged'), 400, 3);
    await refused(client.listGroupUsers(outsider, id, 5), 400, 3);
    await refused(client.listGroupUsers(outsider, id, undefined, 101), 400, 3);
    await refused(client.listGroupUsers(outsider, 'nonsense'), 400, 3);
    assert.deepEqual((await client.listGroupUsers(outsider, UNKNOWN)).group_users, []);
  });

  test('of a user: by rank, then by time, page by page', async () => {
    const [ada, bob, outsider] = await strangers('ada', 'bob', 'outsider');
    const own = [await group(bob), await group(bob)];
    const joined = [await group(ada), await group(ada), await group(ada)];
    for (const { id } of joined) await client.joinGroup(bob, id);
    const asked = await group(ada, { open: false });
    await client.joinGroup(bob, asked.id);
    await client.promoteGroupUsers(ada, joined[1].id, [bob.user_id]);
    const order = [own[0], own[1], joined[1], joined[0], joined[2], asked].map((g) => g.id);
    for (const limit of [1, 4, 100]) {
      const all = await wholeListing((size, cursor) => groupsOf(outsider, bob.user_id, { limit: size, cursor }), 'user_groups', limit);
      assert.deepEqual(all.map((g) => g.group.id), order, `${limit} a page`);
      assert.deepEqual(all.map((g) => g.state), [0, 0, 1, 2, 2, 3]);
    }
    const members = await groupsOf(outsider, bob.user_id, { state: MEMBER });
    assert.deepEqual(members.user_groups.map((g) => [g.group.id, g.group.edge_count]), [[joined[0].id, 2], [joined[2].id, 2]]);
    const { cursor } = await groupsOf(outsider, bob.user_id, { limit: 2 });
    await refused(groupsOf(outsider, ada.user_id, { limit: 2, cursor }), 400, 3);
    await refused(groupsOf(outsider, bob.user_id, { state: 5 }), 400, 3);
    await refused(groupsOf(outsider, bob.user_id, { limit: 0 }), 400, 3);
    await refused(client.listUserGroups(outsider, 'nonsense'), 400, 3);
  });
});
