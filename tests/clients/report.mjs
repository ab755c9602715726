// The pages that load tests leave, in a real browser: nothing on them is cut off, stands on something else or runs out of
// its chart, on a narrow page and on a wide one, in light and in dark; and they fetch nothing.
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
// A curve searches for a rate, in up to sixteen short runs for each size.
const RUN_MS = 150_000;
const target = join(dirname(fileURLToPath(import.meta.url)), '../../target');
const server = new Server();
const directory = temporaryDirectory('report');
// The pages, by the command that makes them: its flags, charts that each has, and what else is to be found on it.
const PAGES = {
  event: {
    flags: ['--users', '60', '--publishers', '4', '--ramp', '2', '--secs', '4', '--burst-every', '3', '--room', ROOM],
    charts: ['Deliveries', 'Messages', 'Present', 'CPU', 'Memory'],
    async holds(page) {
      assert.ok((await page.locator('header').innerText()).includes('loud'), 'the room is named');
      assert.ok((await page.locator('.marks').first().innerText()).includes('burst'));
    },
  },
  curve: {
    flags: ['--sizes', '5,200', '--secs', '0.5', '--quiet-rate', '10', '--settle', '1'],
    charts: ['Time to the last member', 'Deliveries a second'],
    async holds(page) {
      assert.ok((await page.locator('main').innerText()).includes('not a measurement'), 'a projection is called one');
    },
  },
};
const fileOf = (scenario) => join(directory, `${scenario}.html`);
let browser;

before(async () => {
  assert.ok(existsSync(CHROMIUM), `${CHROMIUM} is missing: install chromium (./check does it for you)`);
  assert.ok(existsSync(LOADGEN), `${LOADGEN} is missing: run \`cargo build -p loadgen\` with the profile of the tests`);
  mkdirSync(target, { recursive: true });
  await server.start();
  for (const [scenario, { flags }] of Object.entries(PAGES)) {
    await loadgen(scenario, '--addr', `${server.host}:${server.port}`, ...flags, '--html', fileOf(scenario));
  }
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
  for (const cell of document.querySelectorAll('.sections th, .sections td, .latencies th, .latencies td')) {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top))).size;
    if (lines > cell.textContent.split(/[\s-]+/).length) found.push(`broken within a word: ${name(cell)}`);
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

const VIEWS = [[1100, 'light'], [1100, 'dark'], [700, 'light'], [360, 'light'], [360, 'dark']];
for (const [scenario, width, colorScheme] of Object.keys(PAGES).flatMap((scenario) => VIEWS.map((view) => [scenario, ...view]))) {
  test(`everything on the page of ${scenario} can be read, ${width} pixels wide and ${colorScheme}`, async () => {
    const { charts, holds } = PAGES[scenario];
    const file = fileOf(scenario);
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    page.setDefaultTimeout(DEADLINE_MS);
    const fetched = [];
    page.on('request', (request) => fetched.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    await page.screenshot({ path: join(target, `report-${scenario}-${width}-${colorScheme}.png`), fullPage: true });
    assert.deepEqual(await page.evaluate(flaws), []);
    assert.deepEqual(fetched, [pathToFileURL(file).href]);
    assert.match(await page.locator('header').innerText(), /PASSED:/);
    assert.equal(await page.locator('main b').count(), 0, 'a name is no markup');
    const found = await page.locator('figure h2').allInnerTexts();
    for (const chart of charts) assert.ok(found.includes(chart), `${chart}: ${found}`);
    assert.equal(await page.locator('figure svg:visible').count(), found.length);
    await holds(page);
    await page.close();
  });
}
