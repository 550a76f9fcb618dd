// The worker's interpreter, and the packages that only its tests and checks need.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import envPaths from 'env-paths';
import { $ } from 'zx';

export const root = resolve(import.meta.dirname, '..');
export const lorac = join(root, 'bin', 'lorac.mjs');

/** What every process of ours that may import torch gets: threads that wait sleep soon. See lora_worker/devices.py. */
export const quietThreads = { OMP_WAIT_POLICY: 'passive', GOMP_SPINCOUNT: '1000' };

/** The interpreter of the worker's environment, which is made now if it is missing. Progress goes to stderr. */
export async function workerPython(): Promise<string> {
  const { stdout } = await $({ stdio: ['ignore', 'pipe', 'inherit'] })`${process.execPath} ${lorac} env --python`;
  return stdout.trim();
}

/** Variables under which `python -m pytest` and `python -m ruff` work, beside the worker's own packages. */
export async function testTools(python: string): Promise<NodeJS.ProcessEnv> {
  const folder = await installed(python, join(root, 'python', 'requirements-test.lock'));
  const paths = [folder, process.env.PYTHONPATH].filter((path) => path !== undefined && path !== '');
  return { ...process.env, ...quietThreads, PYTHONPATH: paths.join(delimiter) };
}

/** A folder with the packages of a lock file, kept for as long as neither the lock nor the interpreter changes. */
async function installed(python: string, lock: string): Promise<string> {
  const { stdout: version } = await $`${python} -c ${'import sys; print(sys.implementation.cache_tag)'}`;
  const digest = createHash('sha256')
    .update(await readFile(lock))
    .update(version.trim())
    .digest('hex');
  const tools = join(process.env.LORAC_CACHE || envPaths('lorac', { suffix: '' }).cache, 'test-tools');
  const folder = join(tools, digest.slice(0, 16));
  if (existsSync(folder)) return folder;
  process.stderr.write('installing what the Python tests need …\n');
  const temporary = `${folder}.${process.pid}`;
  await mkdir(tools, { recursive: true });
  await $({
    stdio: ['ignore', 2, 2],
  })`${python} -m pip install --quiet --disable-pip-version-check --no-deps --target ${temporary} -r ${lock}`;
  try {
    await rename(temporary, folder);
  } catch (error) {
    // Another one was faster.
    if (!existsSync(folder)) throw error;
    await rm(temporary, { recursive: true });
  }
  return folder;
}
