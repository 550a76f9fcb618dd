// The worker's Python environment: a virtual environment that lorac makes for itself, once, under the user's cache folder.
//
//   envs/<lock digest>-py3.12-cpu-a1b2c3/                one environment: another lock file or build of torch is another
//   envs/<lock digest>-py3.12-cpu-a1b2c3/complete.json   written last, so an installation that was cut off is not used
//   envs/<lock digest>-py3.12-cpu.lock                   held while it is made: a second lorac waits for the first
//
// Each attempt has a folder of its own, since the pip of a lorac that was killed may live on for a while.
// LORAC_PYTHON names an interpreter of the user's own instead; nothing is ever installed into that one.
// LORAC_CACHE is another cache folder; LORAC_TORCH_INDEX a package index that has the wanted build of torch.

import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { access, constants, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { atomicWrite } from '../cache/atomic-write.ts';
import { acquireLock } from '../cache/locks.ts';
import { StageFailure } from '../events.ts';
import { absolutePath } from '../graph/paths.ts';
import { cacheFolder } from './cache-folder.ts';
import { type InstallProgress, install } from './install.ts';
import { askInterpreter, findInterpreter, isSupported } from './interpreter.ts';
import { type LockFile, readLockFile } from './lock-file.ts';
import { missingPackages } from './packages.ts';
import { torchSource } from './torch-source.ts';

export interface Environment {
  /** The interpreter that runs the worker. */
  readonly python: string;
  /** The virtual environment that lorac made, or `undefined` when LORAC_PYTHON names the user's own interpreter. */
  readonly folder: string | undefined;
}

export interface EnvironmentOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  onProgress?(progress: InstallProgress): void;
}

/** What `complete.json` says, for people who look. */
interface Complete {
  readonly python: string;
  readonly packages: { readonly [name: string]: string };
}

/** The environment, made now if there is none. Throws `StageFailure` that says what is missing and what to do. */
export async function ensureEnvironment(options: EnvironmentOptions = {}): Promise<Environment> {
  const env = options.env ?? process.env;
  if (env.LORAC_PYTHON) return usersOwn(env.LORAC_PYTHON, env);
  return findEnvironment(env) ?? make(env, options);
}

/** The environment that is there already, without starting anything. Does not look at LORAC_PYTHON. */
export function findEnvironment(env: NodeJS.ProcessEnv = process.env): Environment | undefined {
  const pattern = `${shortDigest(readLockFile())}-py3\\.(\\d+)-${torchSource(env).variant}`;
  const found = attempts(env, pattern)
    .filter(({ folder }) => isComplete(folder))
    .sort((a, b) => Number(b.match[1]) - Number(a.match[1]))[0];
  return found && at(found.folder);
}

/** Where environments are kept. */
export function environmentsFolder(env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheFolder(env), 'envs');
}

/** The versions of the packages that were installed, as the environment's own note says. */
export function installedVersions(folder: string): Complete {
  return JSON.parse(readFileSync(join(folder, 'complete.json'), 'utf8')) as Complete;
}

async function usersOwn(python: string, env: NodeJS.ProcessEnv): Promise<Environment> {
  const interpreter = await askInterpreter(python);
  if (interpreter === undefined) {
    throw new StageFailure({
      kind: 'no-python',
      message: `LORAC_PYTHON is "${python}", and that is no Python interpreter that can be started.`,
      hint: 'Give the path of an interpreter, or unset LORAC_PYTHON to let lorac make its own environment.',
    });
  }
  const missing = await missingPackages(python, env);
  if (missing.length > 0 || !isSupported(interpreter.version)) {
    const what = missing.length > 0 ? `lacks ${missing.join(', ')}` : `is version ${interpreter.version.join('.')}`;
    throw new StageFailure({
      kind: 'environment',
      message: `The interpreter that LORAC_PYTHON names ("${python}") ${what}.`,
      hint: `Install the packages of "${readLockFile().path}" into it, or unset LORAC_PYTHON to let lorac make its own.`,
    });
  }
  return { python, folder: undefined };
}

async function make(env: NodeJS.ProcessEnv, { signal, onProgress }: EnvironmentOptions): Promise<Environment> {
  const lock = readLockFile();
  const interpreter = await findInterpreter(env);
  const source = torchSource(env);
  const name = `${shortDigest(lock)}-py${interpreter.version.slice(0, 2).join('.')}-${source.variant}`;
  await makeEnvironmentsFolder(env);
  const held = await acquireLock(absolutePath(join(environmentsFolder(env), `${name}.lock`)), {
    ...(signal ? { signal } : {}),
    onWait: () => onProgress?.({ message: 'Waiting for another lorac that is making the environment' }),
  });
  try {
    const madeMeanwhile = findEnvironment(env);
    if (madeMeanwhile) return madeMeanwhile;
    // What a killed attempt's pip may still be writing to is left for the attempt after this one.
    for (const { folder } of attempts(env, name.replaceAll('.', '\\.')))
      await rm(folder, { recursive: true, force: true }).catch(() => {});
    const folder = join(environmentsFolder(env), `${name}-${randomBytes(3).toString('hex')}`);
    const { python } = at(folder);
    const packages = await install({ interpreter, folder, python, lock, source, env, signal, onProgress });
    const complete: Complete = { python: interpreter.version.join('.'), packages };
    const note = absolutePath(join(folder, 'complete.json'));
    await atomicWrite(note, `${JSON.stringify(complete, null, 2)}\n`, { durable: true });
    return at(folder);
  } finally {
    held.release();
  }
}

async function makeEnvironmentsFolder(env: NodeJS.ProcessEnv): Promise<void> {
  const folder = environmentsFolder(env);
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    throw new StageFailure({
      kind: 'environment',
      message: `The worker's Python environment cannot be made in "${folder}" (${code}).`,
      hint: 'Set LORAC_CACHE to a folder of yours that can be written.',
    });
  }
}

/** The folders of environments whose name, without the part that tells attempts apart, matches a pattern. */
function attempts(env: NodeJS.ProcessEnv, pattern: string): { folder: string; match: RegExpExecArray }[] {
  const parent = environmentsFolder(env);
  if (!existsSync(parent)) return [];
  const whole = new RegExp(`^${pattern}-[0-9a-f]{6}$`);
  return readdirSync(parent).flatMap((name) => {
    const match = whole.exec(name);
    return match ? [{ folder: join(parent, name), match }] : [];
  });
}

/** Whether it was finished, and the Python that it was made with is still there. */
function isComplete(folder: string): boolean {
  return existsSync(join(folder, 'complete.json')) && existsSync(at(folder).python);
}

function at(folder: string): Environment {
  const python = process.platform === 'win32' ? join('Scripts', 'python.exe') : join('bin', 'python');
  return { python: join(folder, python), folder };
}

function shortDigest(lock: LockFile): string {
  return lock.digest.slice(0, 12);
}
