import { existsSync, readdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import { describeEnvironment } from '../../../src/runtime/worker/describe-environment.ts';
import { ensureEnvironment, findEnvironment } from '../../../src/runtime/worker/environment.ts';
import { lockedTools, readLockFile } from '../../../src/runtime/worker/lock-file.ts';

// A Python that is a shell script: it says which version it is, makes "virtual environments" that hold a copy of
// itself, and plays pip. Everything it is asked to do goes into a journal.
const FAKE_PYTHON = `#!/bin/sh
echo "$@" | head -c 200 | tr '\\n' ' ' >> "$FAKE_JOURNAL"; echo >> "$FAKE_JOURNAL"
case "$1 $2" in
  "-I -c") echo "[\\"$0\\", [VERSION], [MISSING]]" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip")
    echo "Collecting torch==2.13.0"
    echo "  Downloading https://files.example/torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl (190.5 MB)"
    if [ -n "$FAKE_PIP_HANGS" ]; then exec sleep 60; fi
    if [ -n "$FAKE_PIP_FAILS" ]; then echo "ERROR: No matching distribution found" >&2; exit 1; fi
    sleep 0.1 ;;
  *) case "$2" in
      *svdvals*) exit "\${FAKE_TEST_EXIT:-0}" ;;
      *) echo '{"torch": "2.13.0", "diffusers": "0.41.0"}' ;;
    esac ;;
esac
`;

interface Machine {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  journal(): Promise<string[]>;
}

/** A machine whose PATH has these interpreters and the few commands that they use. */
async function machine(pythons: { readonly [name: string]: { version: string; missing?: string } }): Promise<Machine> {
  const folder = await mkdtemp(join(tmpdir(), 'lorac-env-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const bin = join(folder, 'bin');
  await mkdir(bin);
  for (const command of ['sh', 'cp', 'mkdir', 'sleep', 'head', 'tr']) {
    const path = ['/bin', '/usr/bin'].map((place) => join(place, command)).find((place) => existsSync(place));
    if (path) await symlink(path, join(bin, command));
  }
  for (const [name, { version, missing = '' }] of Object.entries(pythons)) {
    const script = FAKE_PYTHON.replace('VERSION', version).replace('MISSING', missing.replaceAll('"', '\\"'));
    await writeFile(join(bin, name), script);
    await chmod(join(bin, name), 0o755);
  }
  const journal = join(folder, 'journal');
  await writeFile(journal, '');
  const env = {
    PATH: bin,
    LORAC_CACHE: join(folder, 'cache'),
    // Named, so that no test asks a network.
    LORAC_TORCH_INDEX: 'https://index.example/cpu',
    FAKE_JOURNAL: journal,
  };
  const lines = async () => (await readFile(journal, 'utf8')).split('\n').filter((line) => line !== '');
  return { folder, env, journal: lines };
}

async function failureOf(promise: Promise<unknown>) {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof StageFailure)) throw new Error(`Expected a StageFailure, and got ${String(error)}`);
  return error.failure;
}

describe.skipIf(process.platform === 'win32')('the environment', () => {
  test('is made with the newest interpreter that the lock supports', async () => {
    const { env } = await machine({
      'python3.15': { version: '3,15,0' },
      'python3.12': { version: '3,12,3' },
      'python3.10': { version: '3,10,1' },
      python3: { version: '3,15,0' },
    });
    const { folder } = await ensureEnvironment({ env });
    expect(folder).toMatch(/\/cache\/envs\/[0-9a-f]{12}-py3\.12-index-[0-9a-f]{8}-[0-9a-f]{6}$/);
  });

  test('is made once, and found again without starting anything', async () => {
    const { env, journal } = await machine({ python3: { version: '3,11,2' } });
    const made = await ensureEnvironment({ env });
    const before = (await journal()).length;
    expect(await ensureEnvironment({ env })).toEqual(made);
    expect(findEnvironment(env)).toEqual(made);
    expect((await journal()).length).toBe(before);
  });

  test('is filled with torch first, held to the lock, then with exactly what the lock lists', async () => {
    const { env, journal } = await machine({ python3: { version: '3,11,2' } });
    await ensureEnvironment({ env });
    const installs = (await journal()).filter((line) => line.startsWith('-m pip'));
    expect(installs).toHaveLength(2);
    expect(installs[0]).toContain('--extra-index-url https://index.example/cpu --constraint');
    expect(installs[1]).toContain('--no-deps --requirement');
  });

  test('tells how much there is to download, and what is being downloaded', async () => {
    const { env } = await machine({ python3: { version: '3,11,2' } });
    const messages: string[] = [];
    await ensureEnvironment({ env, onProgress: ({ message }) => messages.push(message) });
    expect(messages[0]).toMatch(/about \d+ MiB to download/);
    expect(messages).toContain('Downloading torch 2.13.0 (190.5 MB)');
    expect(messages.at(-1)).toBe('Trying the new environment');
  });

  test('that could not be installed fails with the last lines of pip, and is made anew the next time', async () => {
    const { env } = await machine({ python3: { version: '3,11,2' } });
    const failure = await failureOf(ensureEnvironment({ env: { ...env, FAKE_PIP_FAILS: '1' } }));
    expect(failure).toMatchObject({
      kind: 'environment',
      message: "Setting up the worker's Python environment failed while installing PyTorch.",
      logTail: expect.arrayContaining(['ERROR: No matching distribution found']),
    });
    expect(findEnvironment(env)).toBeUndefined();
    await ensureEnvironment({ env });
    expect(findEnvironment(env)).toBeDefined();
  });

  test('that does not pass its test does not count as made', async () => {
    const { env } = await machine({ python3: { version: '3,11,2' } });
    const failure = await failureOf(ensureEnvironment({ env: { ...env, FAKE_TEST_EXIT: '1' } }));
    expect(failure.message).toContain('while trying what was installed');
    expect(findEnvironment(env)).toBeUndefined();
  });

  test('whose installation is stopped is not half used later', async () => {
    const { env } = await machine({ python3: { version: '3,11,2' } });
    const stop = new AbortController();
    const onProgress = ({ message }: { message: string }) => {
      if (message.startsWith('Downloading')) stop.abort();
    };
    const failure = await failureOf(
      ensureEnvironment({ env: { ...env, FAKE_PIP_HANGS: '1' }, signal: stop.signal, onProgress }),
    );
    expect(failure.kind).toBe('cancelled');
    expect(findEnvironment(env)).toBeUndefined();
    await ensureEnvironment({ env });
  });

  test('is made by one of two that need it at once, and the other waits', async () => {
    const { env, journal } = await machine({ python3: { version: '3,11,2' } });
    const messages: string[] = [];
    const onProgress = ({ message }: { message: string }) => messages.push(message);
    const [one, two] = await Promise.all([
      ensureEnvironment({ env, onProgress }),
      ensureEnvironment({ env, onProgress }),
    ]);
    expect(one).toEqual(two);
    expect((await journal()).filter((line) => line.startsWith('-m venv'))).toHaveLength(1);
    expect(messages).toContain('Waiting for another lorac that is making the environment');
    expect(readdirSync(join(env.LORAC_CACHE as string, 'envs')).filter((name) => name.endsWith('.lock'))).toEqual([]);
  });

  test('says plainly that there is no Python', async () => {
    const { env } = await machine({});
    expect(await failureOf(ensureEnvironment({ env }))).toMatchObject({
      kind: 'no-python',
      message: 'The worker needs Python 3.10 to 3.14, and none was found on the PATH.',
    });
  });

  test('names the interpreters that are too old', async () => {
    const { env } = await machine({ python3: { version: '3,8,10' }, python: { version: '2,7,18' } });
    const { message } = await failureOf(ensureEnvironment({ env }));
    expect(message).toMatch(/^The worker needs Python 3\.10 to 3\.14, and only 3\.8\.10 \(".+python3"\), 2\.7\.18/);
  });

  test('names what a system has left out of its Python', async () => {
    const { env } = await machine({ 'python3.11': { version: '3,11,2', missing: '"ensurepip"' } });
    const { kind, message, hint } = await failureOf(ensureEnvironment({ env }));
    expect(kind).toBe('no-python');
    expect(message).toContain('lacks "ensurepip"');
    if (process.platform === 'linux') expect(hint).toContain('apt install python3.11-venv');
  });

  test('may be an interpreter of the user, which is looked at and left alone', async () => {
    const { env, folder } = await machine({ mine: { version: '3,11,2' } });
    const LORAC_PYTHON = join(folder, 'bin', 'mine');
    const failure = await failureOf(ensureEnvironment({ env: { ...env, LORAC_PYTHON } }));
    expect(failure.kind).toBe('environment');
    expect(failure.message).toContain('lacks transformers, tokenizers, safetensors, pillow, numpy, open_clip_torch');
    expect(existsSync(env.LORAC_CACHE as string)).toBe(false);
  });

  test('says where it cannot be made, and how to have it elsewhere', async () => {
    const { env, folder } = await machine({ python3: { version: '3,11,2' } });
    await writeFile(join(folder, 'file'), '');
    const failure = await failureOf(ensureEnvironment({ env: { ...env, LORAC_CACHE: join(folder, 'file') } }));
    expect(failure).toMatchObject({
      kind: 'environment',
      message: `The worker's Python environment cannot be made in "${join(folder, 'file', 'envs')}" (ENOTDIR).`,
      hint: expect.stringContaining('LORAC_CACHE'),
    });
  });

  test('refuses a LORAC_PYTHON that is no Python', async () => {
    const failure = await failureOf(ensureEnvironment({ env: { LORAC_PYTHON: '/nowhere/python' } }));
    expect(failure).toMatchObject({ kind: 'no-python', message: expect.stringContaining('"/nowhere/python"') });
  });

  test('is described with where it is, its versions, and how to make it again', async () => {
    const { env } = await machine({ python3: { version: '3,11,2' } });
    expect(await describeEnvironment(env)).toMatchObject({ status: 'missing', python: undefined });
    const { python, folder } = await ensureEnvironment({ env });
    const report = await describeEnvironment(env);
    expect(report).toMatchObject({ status: 'made', python, folder });
    expect(report.versions).toEqual({ python: '3.11.2', torch: '2.13.0', diffusers: '0.41.0' });
    expect(report.remake).toContain(`delete the folder "${folder}"`);
  });
});

test('the lock pins every package exactly, and the tools that results are known by among them', () => {
  const { pins } = readLockFile();
  expect([...pins.values()].every((version) => /^\d[\w.]*$/.test(version))).toBe(true);
  expect(lockedTools()).toEqual({
    torch: pins.get('torch'),
    diffusers: pins.get('diffusers'),
    transformers: pins.get('transformers'),
    pillow: pins.get('pillow'),
    tokenizers: pins.get('tokenizers'),
  });
});
