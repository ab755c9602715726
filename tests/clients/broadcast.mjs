// A small chat server on a WebSocket library from npm, which knows nothing of us: whoever has said in which room they are
// hears everything that is said there, in JSON and with the speaker's name. A target for the load generator.
//
// It prints its port, and ends with its standard input. With LOSE=n it keeps each nth delivery to itself.

import { WebSocketServer } from 'ws';

const lose = Number(process.env.LOSE ?? 0);
let deliveries = 0;
const rooms = new Map();

function say(socket, envelope) {
  deliveries += 1;
  if (lose === 0 || deliveries % lose !== 0) socket.send(JSON.stringify(envelope));
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  let members;
  let name;
  socket.on('message', (bytes) => {
    const { hello, room, said } = JSON.parse(bytes);
    if (hello === undefined) {
      for (const member of members) say(member, { from: name, said });
      return;
    }
    name = hello;
    members = rooms.get(room) ?? new Set();
    rooms.set(room, members.add(socket));
    socket.send(JSON.stringify({ welcome: name, room }));
  });
  socket.on('close', () => members?.delete(socket));
});

process.stdin.on('end', () => process.exit(0)).resume();
