// The page that a load test leaves, in a real browser: nothing on it is cut off, stands on something else or runs out of
// its chart, on a narrow page and on a wide one, in light and in dark; and it fetches nothing.
//
// Run by tests/tests/report.rs; by hand: STENTOR_BIN=target/release/stentor node report.mjs. Leaves pictures in target/.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { DEADLINE_MS, Server, atTheEnd, temporaryDirectory, within } from './server.mjs';

const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
const LOADGEN = process.env.LOADGEN_BIN ?? join(dirname(process.env.STENTOR_BIN ?? '.'), 'loadgen');
// A name that would be markup if nobody escaped it.
const ROOM = '<b>&"loud"</b>';
const RUN_MS = 90_000;
const target = join(dirname(fileURLToPath(import.meta.url)), '../../target');
const server = new Server();
const file = join(temporaryDirectory('report'), 'report.html');
let browser;

before(async () => {
  assert.ok(existsSync(CHROMIUM), `${CHROMIUM} is missing: install chromium (./check does it for you)`);
  assert.ok(existsSync(LOADGEN), `${LOADGEN} is missing: run \`cargo build -p loadgen\` with the profile of the tests`);
  mkdirSync(target, { recursive: true });
  await server.start();
  await loadgen('event', '--addr', `${server.host}:${server.port}`, '--users', '60', '--publishers', '4', '--ramp', '2',
    '--secs', '4', '--burst-every', '3', '--room', ROOM, '--html', file);
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    chromiumSandbox: false,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update'],
  });
});

after(async () => {
  await browser?.close();
});

/** Runs it to its end, which must be a good one. */
async function loadgen(...flags) {
  const child = spawn(LOADGEN, flags, { stdio: ['ignore', 'pipe', 'pipe'] });
  atTheEnd(() => child.kill('SIGKILL'));
  const said = [];
  child.stdout.on('data', (data) => said.push(data));
  child.stderr.on('data', (data) => said.push(data));
  const ended = new Promise((resolve) => child.once('close', resolve));
  const code = await within(ended, 'the end of the load test', RUN_MS);
  assert.equal(code, 0, Buffer.concat(said).toString());
}

/** What cannot be read on the page as it stands; runs in the page. */
function flaws() {
  const found = [];
  const name = (element) => `${element.tagName} ${element.textContent.trim().slice(0, 60)}`;
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const main = document.querySelector('main').getBoundingClientRect();
  for (const element of document.querySelectorAll('h1, h2, p, li, th, td, pre, figcaption')) {
    const box = element.getBoundingClientRect();
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0) found.push(`cut: ${name(element)}`);
    if (box.right > main.right + 1) found.push(`beyond the margin: ${name(element)}`);
  }
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    if (frame.width === 0) continue;
    const chart = svg.parentElement.getAttribute('aria-label');
    const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent.trim(), text.getBoundingClientRect(), getComputedStyle(text)]);
    texts.forEach(([text, box, style], at) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) found.push(`${chart}: ${text} runs out`);
      if (box.height < 9) found.push(`${chart}: ${text} is too small`);
      if (style.fill === getComputedStyle(document.body).backgroundColor) found.push(`${chart}: ${text} cannot be seen`);
      for (const [other, another] of texts.slice(at + 1)) {
        const apart = box.right <= another.left || another.right <= box.left || box.bottom <= another.top || another.bottom <= box.top;
        if (!apart) found.push(`${chart}: ${text} stands on ${other}`);
      }
    });
    for (const line of svg.querySelectorAll('polyline')) {
      // The colours of the drawing stand for parts; every part has been given one of the page's.
      const { stroke } = getComputedStyle(line);
      if (/^rgb\(\d\d?, [1-9], [1-9]\)$/.test(stroke)) found.push(`${chart}: a line without a colour`);
    }
  }
  return found;
}

for (const [width, colorScheme] of [[1100, 'light'], [1100, 'dark'], [700, 'light'], [360, 'light'], [360, 'dark']]) {
  test(`everything can be read, ${width} pixels wide and ${colorScheme}`, async () => {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    page.setDefaultTimeout(DEADLINE_MS);
    const fetched = [];
    page.on('request', (request) => fetched.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    await page.screenshot({ path: join(target, `report-${width}-${colorScheme}.png`), fullPage: true });
    assert.deepEqual(await page.evaluate(flaws), []);
    assert.deepEqual(fetched, [pathToFileURL(file).href]);
    assert.match(await page.locator('header').innerText(), /PASSED:/);
    assert.ok((await page.locator('header').innerText()).includes('loud'), 'the room is named');
    assert.equal(await page.locator('main b').count(), 0, 'a name is no markup');
    const charts = await page.locator('figure h2').allInnerTexts();
    for (const chart of ['Deliveries', 'Messages', 'Present', 'CPU', 'Memory']) assert.ok(charts.includes(chart), `${chart}: ${charts}`);
    assert.equal(await page.locator('figure svg:visible').count(), charts.length);
    assert.ok((await page.locator('.marks').first().innerText()).includes('burst'));
    await page.close();
  });
}
