// Starts the real server, for tests of clients that are not written in Rust.
//
// The binary is the one STENTOR_BIN names. Everything started here is ended by its pid, also when the script is asked to
// end early.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const DEADLINE_MS = 20_000;

const ends = new Set();
function endEverything() {
  for (const end of ends) end();
}
process.on('exit', endEverything);
process.on('SIGTERM', () => process.exit(1));
process.on('SIGINT', () => process.exit(1));

/** Has `end` called when the script ends, however it does. */
export function atTheEnd(end) {
  ends.add(end);
}

/** A directory that is gone afterwards. */
export function temporaryDirectory(name) {
  const path = mkdtempSync(join(tmpdir(), `stentor-${name}-`));
  atTheEnd(() => rmSync(path, { recursive: true, force: true, maxRetries: 3 }));
  return path;
}

/** Waits for `promise`, but says what it waited for when that takes too long. */
export function within(promise, what, milliseconds = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The server as a process: started, killed, started again on the same directory and port. */
export class Server {
  #flags;
  #child = null;
  #said = [];
  port = 0;

  constructor(...flags) {
    assert.ok(process.env.STENTOR_BIN, 'name the server in STENTOR_BIN, such as target/release/stentor');
    this.data = temporaryDirectory('data');
    this.#flags = flags;
    atTheEnd(() => this.#child?.kill('SIGKILL'));
  }

  get host() {
    return '127.0.0.1';
  }

  /** Whether clients speak TLS: with the certificate and key in the directory that STENTOR_TEST_TLS names. */
  get secured() {
    return process.env.STENTOR_TEST_TLS !== undefined;
  }

  get origin() {
    return `${this.secured ? 'https' : 'http'}://${this.host}:${this.port}`;
  }

  /** Where sockets open. */
  get socketOrigin() {
    return `${this.secured ? 'wss' : 'ws'}://${this.host}:${this.port}`;
  }

  get pid() {
    return this.#child.pid;
  }

  async start() {
    const shards = process.env.STENTOR_TEST_SHARDS ?? '1';
    const listen = `${this.secured ? 'tls:' : ''}${this.host}:${this.port}`;
    const directory = process.env.STENTOR_TEST_TLS;
    const tls = this.secured ? ['--tls-cert', join(directory, 'cert.pem'), '--tls-key', join(directory, 'key.pem')] : [];
    const more = (process.env.STENTOR_TEST_FLAGS ?? '').split(' ').filter((flag) => flag !== '');
    // The port below the one of an earlier life may be that of another test.
    const grpc = this.port === 0 ? [] : ['--grpc', 'off'];
    const always = ['--data', this.data, '--listen', listen, '--admin', 'off', '--shards', shards];
    const flags = [...always, ...grpc, ...tls, ...more, ...this.#flags];
    this.#child = spawn(process.env.STENTOR_BIN, flags, { stdio: ['ignore', 'pipe', 'pipe'] });
    const child = this.#child;
    const listening = new Promise((resolve, reject) => {
      const read = (line) => {
        this.#said.push(line);
        const found = /listening on 127\.0\.0\.1:(\d+)/.exec(line);
        if (found) resolve(Number(found[1]));
      };
      createInterface({ input: child.stdout }).on('line', read);
      createInterface({ input: child.stderr }).on('line', read);
      child.on('error', reject);
      child.on('exit', (code, signal) => reject(new Error(`the server ended (${code ?? signal}):\n${this.said()}`)));
    });
    this.port = await within(listening, 'the server says where it listens');
  }

  /** Ends it with SIGKILL, and waits for that. */
  async kill() {
    const child = this.#child;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await within(gone, 'the end of the killed server');
  }

  said() {
    return this.#said.join('\n');
  }
}
