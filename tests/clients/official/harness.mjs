// What all sections share: the server, the official client, people with open sockets, and refusals.
//
// The client is told by STENTOR_TEST_FORMAT what to send over its sockets: json, which it does by itself, or protobuf, for
// which there is an official adapter (formats.mjs).

import strict from 'node:assert/strict';
import { after, before } from 'node:test';
import { Client } from '@heroiclabs/nakama-js';
import WebSocket from 'ws';
import { format, formatName } from '../formats.mjs';
import { Server, within } from '../server.mjs';

export { WebSocket, format, formatName, within };

// Node has had a WebSocket of its own only since version 22; the client expects the browser's.
globalThis.WebSocket = WebSocket;

// The client thinks little of the default lifetimes, and says so at each sign-in.
const warn = console.warn;
console.warn = (...words) => /lifetime too short/.test(words[0]) || warn(...words);

// Kinds of channels.
export const ROOM = 1;
export const DIRECT = 2;
export const GROUP = 3;

export const UNKNOWN = '65aea872-a336-4029-90c9-6f507b75281c';
export const NIL = '00000000-0000-0000-0000-000000000000';

// Assertions are counted, so that a test that silently does nothing is seen.
let assertions = 0;
export const assert = new Proxy(strict, {
  get(target, name) {
    const member = target[name];
    if (typeof member !== 'function') return member;
    return (...rest) => {
      assertions += 1;
      return member(...rest);
    };
  },
});

export const server = new Server();
/** The official client of the server. */
export let client;

before(async () => {
  await server.start();
  client = newClient();
});

after(() => console.log(`${assertions} assertions, ${process.env.STENTOR_TEST_SHARDS ?? '1'} shards, ${formatName}`));

/** One more client, of which nothing is known yet. */
export function newClient(key = 'defaultkey', refreshes = true) {
  return new Client(key, server.host, String(server.port), server.secured, 7000, refreshes);
}

/** A socket that is not connected yet. */
export function newSocket() {
  return client.createSocket(server.secured, false, format.adapter());
}

/** An open socket that keeps what it hears, so that tests wait for things instead of for time. */
export class Listener {
  messages = [];
  presences = [];
  notifications = [];
  statuses = [];
  closed = null;
  #waiting = [];

  static async connect(session, online = false) {
    const listener = new Listener();
    const socket = newSocket();
    listener.socket = socket;
    listener.session = session;
    socket.onchannelmessage = (message) => listener.#heard('messages', message);
    socket.onchannelpresence = (event) => listener.#heard('presences', event);
    socket.onnotification = (notification) => listener.#heard('notifications', notification);
    socket.onstatuspresence = (event) => listener.#heard('statuses', event);
    socket.ondisconnect = (event) => {
      listener.closed = event;
      listener.#wake();
    };
    await within(socket.connect(session, online), 'the socket opens');
    return listener;
  }

  get id() {
    return this.session.user_id;
  }

  get name() {
    return this.session.username;
  }

  #heard(kind, what) {
    this[kind].push(what);
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
    return within(promise, `${this.name}: ${what}`);
  }

  message(id, code = 0) {
    return this.until(() => this.messages.find((m) => m.message_id === id && m.code === code), `message ${id}`);
  }

  /** The message that tells the members of a group what has happened to one of them. */
  event(code, userId) {
    const wanted = (m) => m.code === code && m.sender_id === userId;
    return this.until(() => this.messages.find(wanted), `event ${code} of ${userId}`);
  }

  joined(sessionId) {
    return this.until(() => this.presences.find((e) => (e.joins ?? []).some((p) => p.session_id === sessionId)), 'a join');
  }

  left(sessionId) {
    return this.until(() => this.presences.find((e) => (e.leaves ?? []).some((p) => p.session_id === sessionId)), 'a leave');
  }

  notified(code, senderId) {
    const wanted = (n) => n.code === code && n.sender_id === senderId;
    return this.until(() => this.notifications.find(wanted), `notification ${code} of ${senderId}`);
  }

  /** How many notifications of a code it has heard. */
  count(code) {
    return this.notifications.filter((n) => n.code === code).length;
  }

  /** The sessions that it was told have left. */
  get gone() {
    return this.presences.flatMap((event) => event.leaves ?? []).map((presence) => presence.session_id);
  }

  /**
   * Returns when it has heard what was on its way from any shard: rooms belong to all of them, and their answers come
   * behind what their shards have sent before. Only then does it mean something to have heard nothing.
   */
  async caughtUp() {
    const joins = Array.from({ length: 16 }, (_, n) => this.socket.joinChat(`caught up ${n}`, ROOM, false, true));
    for (const { id } of await Promise.all(joins)) await this.socket.leaveChat(id);
  }

  disconnect() {
    // By default the client reports the end at once, before the server has heard of it.
    this.socket.disconnect(false);
  }
}

export async function signIn(name) {
  return client.authenticateCustom(`custom-id-of-${name}`, true, name);
}

export async function connect(name) {
  return Listener.connect(await signIn(name));
}

let signedIn = 0;

/** Signs in people whom nobody knows yet. Their names begin as asked. */
export async function strangers(...names) {
  return Promise.all(names.map((name) => signIn(`${name}-${(signedIn += 1)}`)));
}

/** The same, each with an open socket. */
export async function people(...names) {
  return Promise.all((await strangers(...names)).map((session) => Listener.connect(session)));
}

export function disconnect(...listeners) {
  for (const listener of listeners) listener.disconnect();
}

/** Asserts that a REST call is refused with this status and code. */
export async function refused(promise, status, code) {
  const response = await within(
    promise.then((value) => strict.fail(`should have been refused: ${JSON.stringify(value)}`), (reason) => reason),
    'a refusal',
  );
  if (response instanceof Error) throw response;
  const body = await response.json();
  assert.deepEqual([response.status, body.code], [status, code], body.message);
  assert.ok(body.message.length > 0);
}

/** Asserts that a request over the socket is refused with this code, and that the socket stays open. */
export async function rejected(listener, promise, code = 3) {
  const error = await promise.then((value) => strict.fail(`should have been refused: ${JSON.stringify(value)}`), (reason) => reason);
  if (error instanceof Error) throw error;
  assert.equal(error.code, code);
  assert.ok(error.message.length > 0);
  const pong = await listener.socket.send({ ping: {} });
  assert.ok(pong.pong);
  assert.equal(listener.closed, null);
}

/** Asserts that an answer says nothing but to which request it belongs. */
export function assertBare(answer) {
  const said = Object.keys(answer).filter((name) => answer[name] !== undefined);
  assert.deepEqual(said, ['cid']);
}

/** A time, comparable: sockets in protobuf give a `Date`, everything else gives text. */
export function moment(time) {
  const moment = Number(new Date(time));
  assert.ok(Number.isFinite(moment), `a time: ${time}`);
  return moment;
}

/** Everything in a channel, oldest first, by pages. */
export async function wholeHistory(id, session, limit = 100) {
  const messages = [];
  let cursor;
  do {
    const page = await client.listChannelMessages(session, id, limit, true, cursor);
    messages.push(...page.messages);
    cursor = page.next_cursor;
  } while (cursor);
  return messages;
}

/** Everything that a listing has, by pages of `limit`; `list` is asked with a limit and a cursor. */
export async function wholeListing(list, member, limit) {
  const items = [];
  let cursor;
  do {
    const page = await list(limit, cursor);
    assert.ok(page[member].length <= limit);
    items.push(...page[member]);
    cursor = page.cursor;
  } while (cursor);
  return items;
}
