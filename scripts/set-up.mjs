// Brings a clone up to date: npm packages as the lock file names them, then the bundle in `dist`.
// Needs nothing but Node 18, since it runs before anything is installed. Costs a few milliseconds when all is well.
// Writes to stderr alone, so that `lorac env --python` and JSON output stay clean.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** Returns false after saying on stderr what went wrong. `rebuild` bundles again in any case. */
export async function setUp({ rebuild = false } = {}) {
  if (!packagesAreCurrent()) {
    say('installing npm packages (once, and again when package-lock.json changes) …');
    if (!installPackages()) return false;
  }
  if (rebuild || !bundleIsCurrent()) {
    say('building dist/ …');
    const { bundle } = await import('./build.mjs');
    if (!(await bundle())) return false;
  }
  return true;
}

function say(text) {
  process.stderr.write(`lorac: ${text}\n`);
}

/** Compares what npm says it installed with the lock file, by content: times say nothing after a checkout. */
export function packagesAreCurrent() {
  const wanted = readPackages(join(root, 'package-lock.json'));
  const installed = readPackages(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const found = installed[path];
    if (found === undefined) return entry.optional === true || entry.devOptional === true;
    return found.version === entry.version;
  });
}

function readPackages(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function installPackages() {
  const args = [
    'ci',
    '--include=dev',
    '--include=optional',
    '--engine-strict=false',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ];
  const npm = npmCommand();
  // stdout goes to stderr: what lorac itself prints on stdout may be read by a program.
  const done = spawnSync(npm.command, [...npm.args, ...args], { cwd: root, stdio: ['ignore', 2, 2], shell: npm.shell });
  if (done.error) {
    say(`npm does not start: ${done.error.message}`);
    say('hint: npm comes with Node; install both from https://nodejs.org.');
    return false;
  }
  if (done.status !== 0) {
    say(`npm ci failed (exit code ${done.status ?? done.signal}); its message is above.`);
    return false;
  }
  return true;
}

/** The npm that runs us, else the one on the PATH. */
function npmCommand() {
  const running = process.env.npm_execpath;
  if (running !== undefined && basename(running) === 'npm-cli.js' && existsSync(running)) {
    return { command: process.execPath, args: [running], shell: false };
  }
  return { command: 'npm', args: [], shell: process.platform === 'win32' };
}

/** The bundle carries the time at which its build began; any source, or folder of sources, after that makes it old. */
function bundleIsCurrent() {
  let built;
  try {
    built = statSync(join(root, 'dist', 'cli.js')).mtimeMs;
  } catch (error) {
    if (error.code === 'ENOENT') return false;
    throw error;
  }
  const others = ['package.json', 'package-lock.json', join('scripts', 'build.mjs')];
  return others.every((path) => statSync(join(root, path)).mtimeMs <= built) && isOlder(join(root, 'src'), built);
}

function isOlder(folder, time) {
  // A folder's own time changes when a file in it is removed or renamed.
  if (statSync(folder).mtimeMs > time) return false;
  return readdirSync(folder, { withFileTypes: true }).every((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? isOlder(path, time) : statSync(path).mtimeMs <= time;
  });
}

// npm run build
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!(await setUp({ rebuild: true }))) process.exitCode = 1;
}
