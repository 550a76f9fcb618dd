// Commands of the user's own as part of a build: when they run, what becomes of what they write, and what is said.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { stages } from '../../../src/runtime/stages/index.ts';
import { type Lab, noWorker, openLab } from '../../helpers/lab.ts';
import { settle } from '../../helpers/settle.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { verifyStore } from '../../helpers/verify-store.ts';
import { writeLora } from './lora-files.ts';

const program = `
lora hero { path = "hero.safetensors" }
chop tiny { from = hero  keep = [OUT01] }
run report {
  command = "sh {tool} {lora} {text} $MODE"
  inputs = { lora = tiny  tool = "count.sh" }
  outputs = { text = "report.txt" }
  env = { MODE = "plain" }
}
run loud { command = "tr a-z A-Z < {text} > {loud}"  inputs = { text = report.text }  outputs = { loud = "loud.txt" } }
save "out/loud.txt" { from = loud.loud }
`;
const tool = 'test -s "$1" && echo "$3 lora" > "$2"\n';

async function openRunLab(text = program, files: { readonly [name: string]: string } = {}): Promise<Lab> {
  const folder = temporaryFolder();
  await writeLora(folder.at('hero.safetensors'));
  const lab = await openLab({ 'main.lora': text, 'count.sh': tool, ...files }, { stages, folder });
  await settle();
  return lab;
}

const build = (lab: Lab, options: Parameters<Lab['run']>[0] = {}) => lab.run({ startWorker: noWorker, ...options });

const one = (command: string, more = '') =>
  `run it { command = ${JSON.stringify(command)}  outputs = { o = "o.txt" } ${more} }`;

test('a command runs when what it reads has changed, and not otherwise', async () => {
  using lab = await openRunLab();
  expect((await build(lab)).finished).toMatchObject({ ok: true });
  expect(lab.read('out/loud.txt')).toBe('PLAIN LORA\n');
  expect((await build(lab)).finished.computed).toEqual([]);

  lab.edit('main.lora', (text) => text.replace('"plain"', '"fancy"'));
  const other = await build(lab);
  expect(other.finished.computed).toEqual(['report', 'loud', 'out/loud.txt']);
  expect(other.reasons.report).toMatchObject({ kind: 'attribute-changed', attribute: 'env.MODE' });
  expect(lab.read('out/loud.txt')).toBe('FANCY LORA\n');

  lab.edit('count.sh', (text) => `# a comment\n${text}`);
  await settle();
  const same = await build(lab);
  // What comes out is the same, so nothing follows.
  expect(same.finished.computed).toEqual(['report']);
  expect(same.reasons.report).toEqual({ kind: 'input-changed', input: lab.at('count.sh') });

  lab.edit('main.lora', (text) => text.replace('[OUT01]', '[OUT00]'));
  expect((await build(lab)).statuses).toMatchObject({ tiny: 'computed', report: 'computed', loud: 'fresh' });
});

test('variables that are not declared are passed on, and change nothing', async () => {
  vi.stubEnv('LORAC_TEST_COLOR', 'red');
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  using lab = await openRunLab(`${one('echo $LORAC_TEST_COLOR > {o}')} save "o.txt" { from = it.o }`);
  await build(lab);
  expect(lab.read('o.txt')).toBe('red\n');
  vi.stubEnv('LORAC_TEST_COLOR', 'blue');
  expect((await build(lab)).finished.computed).toEqual([]);
});

test('a LoRA that a command writes is one, and its spelling is read as that of any', async () => {
  using lab = await openRunLab(`
    lora hero { path = "hero.safetensors" }
    run copy { command = "cp {lora} {same}"  inputs = { lora = hero }  outputs = { same = "same.safetensors" } }
    chop tiny { from = copy.same  keep = [OUT01] }
    save "tiny.safetensors" { from = tiny }
    chop direct { from = hero  keep = [OUT01] }
    save "direct.safetensors" { from = direct }
    save "same.safetensors" { from = copy.same }
  `);
  const { finished } = await build(lab);
  expect(finished.failed).toEqual([]);
  expect(finished.computed).toContain('copy.same:lora');
  for (const name of ['tiny', 'direct', 'same']) expect(existsSync(lab.at(`${name}.safetensors`))).toBe(true);
  const data = (name: string) =>
    readFileSync(lab.at(`${name}.safetensors`))
      .subarray(-64)
      .toString('hex');
  expect(data('tiny')).toBe(data('direct'));
});

test('one that is none is refused by the name of the output', async () => {
  using lab = await openRunLab(`
    run bad { command = "echo no > {lora}"  outputs = { lora = "x.safetensors" } }
    chop tiny { from = bad.lora  keep = [OUT01] }
  `);
  const { failures } = await build(lab);
  expect(failures['bad.lora:lora']?.message).toMatch(/^"bad\.lora" is not a readable safetensors file/);
});

test.each<[string, string, object]>([
  [
    'a command that fails tells its exit code and what it said last',
    'echo one; echo two >&2; exit 3',
    { message: 'The command of "it" ended with exit code 3.', logTail: ['one', 'two'] },
  ],
  [
    'a program that is not there is told',
    'no-such-program-here {o}',
    { hint: 'It names a program that is not there.' },
  ],
  [
    'an output that was not written is missed',
    'true {o}',
    {
      kind: 'no-output',
      message: 'The command of "it" ended well, and its output "o" is not there.',
      hint: 'It has to write a file to {o}.',
    },
  ],
  ['a folder is no output', 'mkdir {o}', { message: expect.stringContaining('its output "o" is a folder') }],
  ['a link is no output', 'ln -s /etc/passwd {o}', { message: expect.stringContaining('is no ordinary file') }],
])('%s', async (_, command, failure) => {
  using lab = await openRunLab(one(command.includes('{o}') ? command : `${command}; echo {o}`));
  const { failures, finished } = await build(lab);
  expect(finished.ok).toBe(false);
  expect(failures.it).toMatchObject(failure);
});

test('what a failing command wrote takes no room on the disk', async () => {
  using lab = await openRunLab(one('head -c 100000 /dev/zero > {o}; exit 1'));
  expect((await build(lab)).finished.failed).toEqual(['it']);
  expect(readdirSync(lab.at('.lorac/work'), { recursive: true }).filter((name) => `${name}`.includes('o.txt'))).toEqual(
    [],
  );
});

test('a command cannot change what is stored', async () => {
  using lab = await openRunLab(`
    run a { command = "echo first > {o}"  outputs = { o = "o.txt" } }
    run b { command = "echo second > {i}; cat {i} > {o}"  inputs = { i = a.o }  outputs = { o = "o.txt" } }
    save "a.txt" { from = a.o }
    save "b.txt" { from = b.o }
  `);
  expect((await build(lab)).finished).toMatchObject({ ok: true });
  expect([lab.read('a.txt'), lab.read('b.txt')]).toEqual(['first\n', 'second\n']);
});

test('what a command prints is told while it runs', async () => {
  using lab = await openRunLab(one('echo working; sleep 1.3; echo {o} > {o}; echo done'));
  const { events } = await build(lab);
  const said = events.flatMap((event) =>
    event.type === 'node-progress' && event.progress.type === 'log' ? [event.progress.message] : [],
  );
  expect(said).toEqual(['working', 'done']);
});

test('a stopped command leaves no result, and the next build begins it anew', async () => {
  using lab = await openRunLab(one('echo x >> {o}; cp {o} seen.txt; sleep $SLEEP'));
  vi.stubEnv('SLEEP', '60');
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  const controller = new AbortController();
  const running = build(lab, { signal: controller.signal });
  while (!existsSync(lab.at('seen.txt'))) await wait(20);
  controller.abort();
  const stopped = await running;
  expect(stopped.statuses.it).toBe('stopped');
  vi.stubEnv('SLEEP', '0');
  expect((await build(lab)).statuses.it).toBe('computed');
  expect(lab.read('seen.txt')).toBe('x\n');
});

test('a build that is killed has published nothing of a command, and the next begins it anew', async () => {
  using lab = await openRunLab(`${one('echo half > {o}; touch started; sleep $SLEEP; echo whole >> {o}')}
    save "o.txt" { from = it.o }`);
  const script = join(import.meta.dirname, '../executor/build-once.ts');
  const child = spawn(process.execPath, [script, lab.folder], { stdio: 'ignore', env: { ...process.env, SLEEP: '2' } });
  while (!existsSync(lab.at('started'))) await wait(20);
  child.kill('SIGKILL');
  await once(child, 'close');
  await verifyStore(lab.at('.lorac'));
  vi.stubEnv('SLEEP', '0');
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  expect((await build(lab)).statuses.it).toBe('computed');
  expect(lab.read('o.txt')).toBe('half\nwhole\n');
});

test('files with odd names are found, and work folders are gone afterwards', async () => {
  const name = `it's $(touch x) "-rf".sh`;
  using lab = await openRunLab(
    `run it { command = "sh {tool} a {o} b"  inputs = { tool = ${JSON.stringify(`./${name}`).replaceAll('$', '\\$')} }  outputs = { o = "o.txt" } }`,
    { [name]: 'echo "$3" > "$2"\n' },
  );
  expect((await build(lab)).failures).toEqual({});
  expect(existsSync(lab.at('x'))).toBe(false);
  expect(readdirSync(lab.at('.lorac/work'))).toEqual([]);
});

test('the example with a command builds', async () => {
  const read = (name: string) => readFileSync(new URL(`../../../examples/report/${name}`, import.meta.url), 'utf8');
  using lab = await openRunLab(read('report.lora'), { 'report.mjs': read('report.mjs') });
  expect((await build(lab)).failures).toEqual({});
  expect(lab.read('report.txt')).toMatch(/^my LoRA\n(?:lora_\S+: rank \d+\n)+$/);
  expect(existsSync(lab.at('tiny.safetensors'))).toBe(true);
  expect((await build(lab)).finished.computed).toEqual([]);
});
