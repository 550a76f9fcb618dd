// Bundles src/cli.ts and all it imports into dist/: production React, and a chunk of its own for everything that is
// imported when needed, so that `lorac check` never reads Ink.
// `--if-possible` (npm's `prepare`) does nothing where esbuild is not installed; `--clean` (`prepack`) keeps no old chunks.

import { mkdirSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = join(root, 'dist');

/** Returns false when a source does not compile; esbuild has said then where and why. */
export async function bundle({ clean = false } = {}) {
  const started = new Date();
  const { build } = await import('esbuild');
  const options = {
    absWorkingDir: root,
    entryPoints: ['src/cli.ts'],
    outdir: 'dist',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    jsx: 'automatic',
    minifySyntax: true,
    // Lines and names stay as they are, so that a stack trace can be read.
    keepNames: true,
    legalComments: 'linked',
    define: { 'process.env.NODE_ENV': '"production"', 'process.env.DEV': '"false"' },
    // The first carries a native binary that it looks up beside itself; the second is Ink's inspector, never installed.
    external: ['fs-native-extensions', 'react-devtools-core'],
    // CommonJS packages inside the bundle ask for Node's modules with `require`.
    banner: {
      js: "import { createRequire as $createRequire } from 'node:module'; const require = $createRequire(import.meta.url);",
    },
    logLevel: 'warning',
    write: false,
  };
  let result;
  try {
    result = await build(options);
  } catch (error) {
    if (error.errors === undefined) throw error;
    return false;
  }
  place(result.outputFiles, started);
  const week = 7 * 24 * 3600 * 1000;
  removeOld(new Set(result.outputFiles.map((file) => basename(file.path))), clean ? 0 : week);
  return true;
}

/** Chunks first, each renamed into place, and last the entry that names them: a lorac that starts meanwhile sees a whole bundle. */
function place(files, started) {
  mkdirSync(dist, { recursive: true });
  const isEntry = (file) => basename(file.path) === 'cli.js';
  for (const file of [...files.filter((file) => !isEntry(file)), ...files.filter(isEntry)]) {
    mkdirSync(dirname(file.path), { recursive: true });
    const temporary = `${file.path}.${process.pid}`;
    writeFileSync(temporary, file.contents);
    utimesSync(temporary, started, started);
    renameSync(temporary, file.path);
  }
}

/** A lorac that is still running may import a chunk of the bundle that it started from, so chunks stay for a while. */
function removeOld(current, keptForMs) {
  for (const name of readdirSync(dist)) {
    const path = join(dist, name);
    if (!current.has(name) && statSync(path).mtimeMs <= Date.now() - keptForMs) rmSync(path, { force: true });
  }
}

async function hasEsbuild() {
  try {
    await import('esbuild');
    return true;
  } catch (error) {
    if (error.code === 'ERR_MODULE_NOT_FOUND') return false;
    throw error;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const isPossible = !process.argv.includes('--if-possible') || (await hasEsbuild());
  if (isPossible && !(await bundle({ clean: process.argv.includes('--clean') }))) process.exitCode = 1;
}
