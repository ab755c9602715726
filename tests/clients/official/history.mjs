// What was said, page by page.

import { before, describe, test } from 'node:test';
import { ROOM, assert, client, connect, refused, signIn } from './harness.mjs';

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
