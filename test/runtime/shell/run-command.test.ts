// Commands with paths in them, in a real bash: what arrives, what is heard, and how they end.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { placeholdersIn, splitCommand } from '../../../src/parser/command.ts';
import { runCommand } from '../../../src/runtime/shell/run-command.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const root = resolve(import.meta.dirname, '../../..');

/** Prints its arguments with a zero behind each. */
const echo = "printf '%s\\0' ";

function run(
  command: string,
  paths: Readonly<Record<string, string>> = {},
  more: Partial<Parameters<typeof runCommand>[0]> = {},
) {
  const { pieces, names } = splitCommand(command);
  return runCommand({
    pieces,
    paths: names.map((name) => paths[name] ?? ''),
    folder: root,
    env: process.env,
    signal: new AbortController().signal,
    ...more,
  });
}

/** What a file can be called, and what shells make much of. */
const odd = fc.oneof(
  fc.constantFrom(
    '-rf',
    '$(touch x)',
    '`touch x`',
    "'",
    '"',
    '\\',
    '\n',
    '~',
    '*',
    '!',
    '&& x',
    '${HOME}',
    "$'x'",
    '\t',
    '#',
    ' ',
  ),
  fc.string({ unit: 'grapheme-composite' }),
);
const name = fc.array(odd, { maxLength: 6 }).map((parts) => parts.join('').replaceAll('\0', ''));

test('any path arrives as one argument, as it is', async () => {
  using folder = temporaryFolder();
  const out = folder.at('out');
  await fc.assert(
    fc.asyncProperty(name, name, async (a, b) => {
      const ended = await run(`${echo}{a} x={b} $(${echo}{a} | wc -c) > {out}`, { a, b, out });
      expect(ended).toMatchObject({ status: 'exited', exitCode: 0 });
      const bytes = Buffer.byteLength(a) + 1;
      expect(readFileSync(out, 'utf8').split('\0')).toEqual([a, `x=${b}`, `${bytes}`, '']);
    }),
    { numRuns: 60 },
  );
});

const fragment = fc.constantFrom(
  ...['{p}', '{p}', '"', "'", '\\', '$(', ')', '(', '`', '#', ' ', '\n', ';', '$', "$'", '${A}', '${A:-', '}', '<<E'],
  ...['((', '))', 'case a in a)', 'esac', 'echo ', 'a', '=', '[[ ', ' ]]', '$[', ']', '<(', 'E\n', '!', '&', '|'],
);

test('wherever the scanner lets a path stand, no path becomes a command', async () => {
  using folder = temporaryFolder();
  const pwned = folder.at('pwned');
  const path = `/a$(touch ${pwned})\`touch ${pwned}\`'$(touch ${pwned})'"$(touch ${pwned})"\n touch ${pwned} #; touch ${pwned}\n`;
  await fc.assert(
    fc.asyncProperty(fc.array(fragment, { minLength: 1, maxLength: 14 }), async (parts) => {
      const command = parts.join('');
      fc.pre(placeholdersIn(command).some(({ isWord }) => isWord));
      rmSync(pwned, { force: true });
      await run(command, { p: path }, { folder: folder.path, env: { PATH: '/usr/bin:/bin' } });
      expect(existsSync(pwned), command).toBe(false);
    }),
    { numRuns: 400 },
  );
}, 60_000);

test('variables are passed on, and a pipe that breaks is a failure', async () => {
  expect(await run('echo $A $B', {}, { env: { ...process.env, A: 'a b', B: 'c' } })).toMatchObject({ tail: ['a b c'] });
  expect(await run('false | true')).toMatchObject({ status: 'exited', exitCode: 1 });
  expect(await run('exit 42')).toMatchObject({ exitCode: 42 });
  expect(await run('kill -9 $$')).toMatchObject({ status: 'killed', signal: 'SIGKILL' });
  expect(await run('cat')).toMatchObject({ exitCode: 0, tail: [] });
});

test('what it prints is heard while it runs: lines, progress bars, and the last forty lines of both streams', async () => {
  const heard: string[] = [];
  const ended = await run(
    "printf '10%%\\r20%%\\r'; sleep 0.1; printf '30%%\\nkäse'; echo; echo \x1b[31mred >&2",
    {},
    {
      onOutput: (line) => heard.push(line),
    },
  );
  expect(heard).toEqual(['20%', '30%', 'käse', expect.stringContaining('red')]);
  expect(ended).toMatchObject({ tail: ['30%', 'käse', expect.stringContaining('red')] });
  const long = await run('seq 100 >&2');
  expect(long).toMatchObject({ tail: Array.from({ length: 40 }, (_, index) => String(61 + index)) });
});

const isAlive = (pid: string) => existsSync(join('/proc', pid));

test.each([
  ['that ends when it is asked to', ''],
  ['that does not listen', "trap '' TERM; "],
])('a command %s is ended with all that it started', async (_, trap) => {
  using folder = temporaryFolder();
  const controller = new AbortController();
  const pids = folder.at('pids');
  const running = run(
    `${trap}(${trap}sleep 60) & echo $! >> {pids}; echo $$ >> {pids}; sleep 60; sleep 60`,
    { pids },
    { signal: controller.signal, graceMs: 200 },
  );
  while (!existsSync(pids) || readFileSync(pids, 'utf8').trim().split('\n').length < 2) await wait(20);
  controller.abort();
  await expect(running).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
  await wait(50);
  const left = readFileSync(pids, 'utf8').trim().split('\n').filter(isAlive);
  expect(left.filter((pid) => !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))).toEqual([]);
});

test('one that was stopped before it began does not begin', async () => {
  const controller = new AbortController();
  controller.abort();
  await expect(run('touch /nowhere', {}, { signal: controller.signal })).rejects.toThrow('abort');
});

test('zx is loaded by the first command, and not before', () => {
  const script = `
    import { createRequire } from 'node:module';
    const { cache } = createRequire(${JSON.stringify(`${root}/x.js`)});
    const isLoaded = () => Object.keys(cache).some((path) => path.includes('zx/build'));
    await import(${JSON.stringify(join(root, 'src/runtime/stages/index.ts'))});
    const before = isLoaded();
    const { runCommand } = await import(${JSON.stringify(join(root, 'src/runtime/shell/run-command.ts'))});
    await runCommand({ pieces: ['true'], paths: [], folder: '/', env: process.env, signal: new AbortController().signal });
    console.log(before, isLoaded());
  `;
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect(printed.trim()).toBe('false true');
});
