// WebSockets over HTTP/2 (RFC 8441): one connection to the proxy carries sign-ins and twenty sockets side by side.
//
// Run by tests/tests/proxies. STENTOR_TEST_ORIGIN is where a proxy that speaks HTTP/2 answers, and NODE_EXTRA_CA_CERTS names
// its certificate.

import assert from 'node:assert/strict';
import { connect } from 'node:http2';
import { after, before, test } from 'node:test';
import { Receiver, Sender } from 'ws';
import { within } from './server.mjs';

const OPENINGS = 20;
const SERVER_KEY = 'Basic ZGVmYXVsdGtleTo=';
const origin = new URL(process.env.STENTOR_TEST_ORIGIN);
let session;

before(async () => {
  session = connect(origin);
  await within(new Promise((resolve, reject) => {
    session.once('error', reject);
    session.once('remoteSettings', resolve);
  }), 'the proxy speaks HTTP/2');
  assert.equal(session.alpnProtocol, 'h2');
  assert.equal(session.remoteSettings.enableConnectProtocol, true, 'the proxy takes WebSockets over HTTP/2');
});

after(() => session.destroy());

/** One REST call. */
async function call(method, path, authorization, body) {
  const stream = session.request({ ':method': method, ':path': path, authorization });
  stream.end(body === undefined ? undefined : JSON.stringify(body));
  const status = new Promise((resolve, reject) => {
    stream.once('response', (headers) => resolve(headers[':status']));
    stream.once('error', reject);
  });
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk) => { text += chunk; });
  const ended = new Promise((resolve) => { stream.once('end', resolve); });
  assert.equal(await within(status, `${method} ${path}`), 200);
  await within(ended, `${method} ${path}: the body`);
  return JSON.parse(text);
}

/** A socket on a stream. The frames are those of the `ws` library. */
class StreamSocket {
  #sender;
  #waiting = [];
  #cid = 0;
  messages = [];

  static async open(token) {
    const socket = new StreamSocket();
    const stream = session.request({
      ':method': 'CONNECT', ':protocol': 'websocket', ':path': `/ws?lang=en&status=false&token=${token}`,
      'sec-websocket-version': '13',
    });
    const status = new Promise((resolve, reject) => {
      stream.once('response', (headers) => resolve(headers[':status']));
      stream.once('error', reject);
    });
    const answer = await within(status, 'the answer to an opening');
    if (answer !== 200) return [answer];
    socket.#sender = new Sender(stream);
    const receiver = new Receiver({ isServer: false });
    stream.pipe(receiver);
    receiver.on('message', (data) => {
      socket.messages.push(JSON.parse(data));
      for (const check of [...socket.#waiting]) check();
    });
    return [answer, socket];
  }

  async request(envelope) {
    this.#cid += 1;
    const cid = String(this.#cid);
    this.#sender.send(Buffer.from(JSON.stringify({ cid, ...envelope })), { fin: true, mask: true, opcode: 1 }, () => {});
    return this.until((message) => message.cid === cid, JSON.stringify(envelope));
  }

  until(wanted, what) {
    return within(new Promise((resolve) => {
      const check = () => {
        const found = this.messages.find(wanted);
        if (found) resolve(found);
      };
      this.#waiting.push(check);
      check();
    }), what);
  }
}

test('twenty sockets beside sign-ins on one connection', async () => {
  const sockets = [];
  for (let n = 0; n < OPENINGS; n += 1) {
    const path = `/v2/account/authenticate/custom?create=true&username=stream-${n}`;
    const { token } = await call('POST', path, SERVER_KEY, { id: `custom-id-of-stream-${n}` });
    const account = await call('GET', '/v2/account', `Bearer ${token}`);
    assert.equal(account.user.username, `stream-${n}`);
    const [status, socket] = await StreamSocket.open(token);
    assert.equal(status, 200);
    sockets.push(socket);
    const join = { target: 'streams', type: 1, persistence: true, hidden: false };
    const { channel } = await socket.request({ channel_join: join });
    const content = JSON.stringify({ text: `said over stream ${n}` });
    const answer = await socket.request({ channel_message_send: { channel_id: channel.id, content } });
    assert.ok(answer.channel_message_ack, JSON.stringify(answer));
    for (const listener of sockets) {
      await listener.until((message) => message.channel_message?.content === content, `message ${n} at everybody`);
    }
  }
});

test('a refused opening ends its stream alone', async () => {
  const [status] = await StreamSocket.open('nonsense');
  assert.equal(status, 401);
  const path = '/v2/account/authenticate/custom?create=true&username=stream-0';
  assert.ok((await call('POST', path, SERVER_KEY, { id: 'custom-id-of-stream-0' })).token);
});
