// A real browser for the scripts here.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { DEADLINE_MS, atTheEnd, temporaryDirectory } from './server.mjs';

const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';

/** Chromium with an empty profile, which is closed when the script ends. */
export async function openBrowser(options = {}) {
  assert.ok(existsSync(CHROMIUM), `${CHROMIUM} is missing: install chromium (./check does it for you)`);
  const browser = await chromium.launchPersistentContext(temporaryDirectory('browser'), {
    executablePath: CHROMIUM,
    headless: true,
    viewport: { width: 1100, height: 720 },
    // Tabs in the background do not animate, and pictures should not depend on the moment.
    reducedMotion: 'reduce',
    chromiumSandbox: false,
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
    ...options,
  });
  browser.setDefaultTimeout(DEADLINE_MS);
  atTheEnd(() => browser.close().catch(() => {}));
  return browser;
}
