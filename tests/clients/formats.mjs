// The formats that the official client speaks over its socket, and what a test sees differently in each.
//
// STENTOR_TEST_FORMAT names the one that is tested: json (the default) or protobuf.

import { WebSocketAdapterPb } from '@heroiclabs/nakama-js-protobuf';

const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

const formats = {
  json: {
    /** The adapter to create a socket with; the client has one of its own for JSON. */
    adapter: () => undefined,
    isTime: (time) => ISO_TIME.test(time),
    /** Something to compare a time by. */
    time: (time) => time,
    isLater: (time, than) => time > than,
    /** Frames that end a session, by what is wrong with them. */
    bad: {
      'not the format': 'nonsense',
      'an unknown member': '{"cid":"1","ping":{},"unknown":1}',
      'two payloads': '{"cid":"1","ping":{},"pong":{}}',
      'no payload': '{"cid":"1"}',
      'a frame of the other kind': Buffer.from('{"cid":"1","ping":{}}'),
    },
  },
  protobuf: {
    adapter: () => new WebSocketAdapterPb(),
    // The adapter makes dates of times, and cuts them to milliseconds.
    isTime: (time) => time instanceof Date && !Number.isNaN(time.getTime()),
    time: (time) => time.getTime(),
    isLater: (time, than) => time >= than,
    bad: {
      'not the format': Buffer.from('nonsense'),
      'cut off': Buffer.from([0x0a, 0x05, 0x31]),
      'text that is no UTF-8': Buffer.from([0x0a, 0x01, 0xff, 0x82, 0x02, 0x00]),
      'no payload': Buffer.from([0x0a, 0x01, 0x31]),
      'a frame of the other kind': '{"cid":"1","ping":{}}',
    },
  },
};

export const formatName = process.env.STENTOR_TEST_FORMAT ?? 'json';
export const format = formats[formatName];
if (!format) throw new Error(`STENTOR_TEST_FORMAT is ${formatName}; it may be ${Object.keys(formats).join(' or ')}`);
