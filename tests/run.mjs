// Runs all tests in two lanes. The first runs the programs that use the database, one after another, because they share
// its node. The second runs the others meanwhile, and the first helps it when it has done its own.
//
// Needs a node of the database: `target/checked/with-cassandra node tests/run.mjs`, as `check` does it.
import { execFileSync, spawn } from 'node:child_process';
import path from 'node:path';

const CARGO = ['test', '--workspace', '--profile', 'checked'];
/** How often a program that still runs is named. */
const SIGN_OF_LIFE_MS = 30_000;
/** Cargo prints a line of JSON for each of some hundred packages. */
const CARGO_OUTPUT_BYTES_MAX = 64 << 20;

const root = path.resolve(import.meta.dirname, '..');

/** The test programs that cargo has built, each with the folder in which cargo would run it. */
function programs() {
  const lines = execFileSync('cargo', [...CARGO, '--no-run', '--quiet', '--message-format=json'], {
    cwd: root, maxBuffer: CARGO_OUTPUT_BYTES_MAX, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'],
  }).split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return lines.filter((built) => built.profile?.test && built.executable).map((built) => {
    const folder = path.dirname(built.manifest_path);
    const name = `${path.relative(root, folder)}: ${built.target.name}`;
    return { name, folder, program: built.executable, usesDatabase: /^storage\/scylla:|: cql$/.test(name) };
  });
}

/** Runs a program and prints what it said when it has ended, so that the lanes' lines are not mixed. */
function run({ name, folder, program }) {
  return new Promise((ended) => {
    const started = Date.now();
    const seconds = () => ((Date.now() - started) / 1000).toFixed(0);
    const child = spawn(program, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = [];
    child.stdout.on('data', (bytes) => said.push(bytes));
    child.stderr.on('data', (bytes) => said.push(bytes));
    const sign = setInterval(() => console.log(`   ${name} runs, for ${seconds()} s so far`), SIGN_OF_LIFE_MS);
    child.on('error', (error) => said.push(Buffer.from(`${error}\n`)));
    child.on('close', (code, signal) => {
      clearInterval(sign);
      console.log(`\n-- ${name}, ${seconds()} s`);
      process.stdout.write(Buffer.concat(said));
      ended(code === 0 ? [] : [`${name}: ${signal ?? `exit code ${code}`}`]);
    });
  });
}

/** Runs programs from the front of these queues, of the first one that has any, until all are empty. */
async function lane(...queues) {
  const failed = [];
  for (;;) {
    const one = queues.find((queue) => queue.length > 0)?.shift();
    if (!one) return failed;
    failed.push(...await run(one));
  }
}

const all = programs();
const [ofDatabase, others] = [true, false].map((uses) => all.filter((one) => one.usesDatabase === uses));
if (ofDatabase.length === 0 || others.length === 0) throw new Error('a lane is empty: are the names still right?');
const failed = (await Promise.all([lane(ofDatabase, others), lane(others)])).flat();
for (const line of failed) console.log(`FAILED ${line}`);
process.exitCode = failed.length === 0 ? 0 : 1;
