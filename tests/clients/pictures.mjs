// Makes the pictures of docs/images: the chat page, and the top of a load report.
//
// Run by hand, from this directory, after `npm ci` and `cargo build --release --workspace`:
//     STENTOR_BIN=../../target/release/stentor node pictures.mjs

import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { openBrowser } from './browser.mjs';
import { Server, temporaryDirectory } from './server.mjs';

const images = join(dirname(fileURLToPath(import.meta.url)), '../../docs/images');
const LOADGEN = process.env.LOADGEN_BIN ?? join(dirname(process.env.STENTOR_BIN), 'loadgen');
const ROOM = 'opening night';
const TALK = [
  ['maria', 'The doors are open. Who is in the hall already?'],
  ['jonas', 'Row 12, with a very good view.'],
  ['yuki', 'Watching from Osaka, it is four in the morning here.'],
  ['maria', 'Good morning, Osaka!'],
  ['jonas', 'The lights go down.'],
  ['yuki', 'Here we go.'],
];

const server = new Server();
await server.start();
mkdirSync(images, { recursive: true });
const browser = await openBrowser();
try {
  await chatPage();
  await loadReport();
} finally {
  await browser.close();
  await server.stop?.();
}
process.exit(0);

async function chatPage() {
  const pages = {};
  for (const name of ['maria', 'jonas', 'yuki']) {
    const page = await browser.newPage();
    await page.goto(server.origin);
    await page.getByLabel('Your name').fill(name);
    await page.getByLabel('Room').fill(ROOM);
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.locator('#state[data-state=open]').waitFor();
    await page.setViewportSize({ width: 900, height: 600 });
    pages[name] = page;
  }
  for (const [name, text] of TALK) {
    await pages[name].getByLabel('Message', { exact: true }).fill(text);
    await pages[name].keyboard.press('Enter');
    await pages.maria.locator('.message', { hasText: text }).waitFor();
  }
  await pages.maria.bringToFront();
  await pages.maria.screenshot({ path: join(images, 'chat-page.png') });
}

async function loadReport() {
  const report = join(temporaryDirectory('pictures'), 'report.html');
  const flags = ['--users', '300', '--publishers', '10', '--ramp', '5', '--secs', '20', '--burst-every', '8'];
  await promisify(execFile)(LOADGEN, ['event', '--addr', `${server.host}:${server.port}`, ...flags, '--html', report]);
  const page = await browser.newPage();
  await page.setViewportSize({ width: 760, height: 800 });
  await page.goto(pathToFileURL(report).href);
  const top = await page.getByRole('heading', { name: 'Latency over time' }).boundingBox();
  const end = await page.getByRole('heading', { name: 'Messages' }).first().boundingBox();
  const clip = { x: 0, y: top.y - 16, width: 760, height: end.y - top.y };
  await page.screenshot({ path: join(images, 'load-report.png'), fullPage: true, clip });
}
