// The command as users run it: a process, its output and its exit code. No stage runs here.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';

const lorac = resolve(import.meta.dirname, '../../bin/lorac.mjs');

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-cli-'));
  // Its files are there, and not what they are called.
  await writeFile(join(folder, 'bad.lora'), good.replace('pony.safe', 'empty.safe').replace('images"', 'nothing"'));
  await writeFile(join(folder, 'empty.safetensors'), '');
  await mkdir(join(folder, 'nothing'));
  // The first call bundles what has changed.
  await run('--version');
}, 120_000);

afterAll(async () => await rm(folder, { recursive: true }));

async function run(...args: string[]) {
  const env = { NO_COLOR: '1', FORCE_COLOR: undefined, LORAC_PYTHON: '/nonexistent/python', LORAC_STORE: undefined };
  const { exitCode, stdout, stderr } = await execa(process.execPath, [lorac, ...args], {
    cwd: folder,
    env,
    reject: false,
    stdin: 'ignore',
  });
  return { exitCode, stdout, stderr };
}

test.each([
  ['--help'],
  ['build', '--help'],
  ['plan', '--help'],
  ['check', '--help'],
  ['fmt', '--help'],
  ['explain', '--help'],
  ['lint', '--help'],
  ['chop', '--help'],
  ['resize', '--help'],
  ['merge', '--help'],
  ['inspect', '--help'],
  ['analyze', '--help'],
  ['init', '--help'],
  ['import', '--help'],
  ['export', '--help'],
  ['env', '--help'],
  ['join', '--help'],
  ['lsp', '--help'],
])('help: %s %s', async (...args) => {
  const { exitCode, stdout } = await run(...args.filter((arg) => arg !== undefined));
  expect(exitCode).toBe(0);
  expect(stdout).toMatchSnapshot();
});

test('a command line that means nothing exits with 2 and says what was meant', async () => {
  expect(await run('buidl')).toMatchObject({ exitCode: 2, stdout: '' });
  expect((await run('buidl')).stderr).toContain('Did you mean build?');
  expect(await run('build', '--reporter', 'loud')).toMatchObject({ exitCode: 2 });
  expect(await run('build', '-p', 'name')).toMatchObject({
    exitCode: 2,
    stderr: 'error: -p needs NAME=VALUE, and "name" is not that.\nhint: for example: -p name=other',
  });
});

test('a machine that is to join has to know where, and that something will run there', async () => {
  const { exitCode, stderr } = await run('join', 'gpu1');
  expect([exitCode, stderr]).toEqual([
    2,
    'error: "gpu1" is not a host and a port.\nhint: Such as lorac join 192.168.1.20:29400',
  ]);
  expect(await run('join', 'gpu1:29400', '--processes', 'two')).toMatchObject({ exitCode: 2 });
  const without = await run('join', 'gpu1:29400');
  expect([without.exitCode, without.stderr]).toEqual([1, expect.stringContaining('/nonexistent/python')]);
});

test('what is typed moves no cursor, recolours nothing and begins no line of its own', async () => {
  const name = '\u001b[31mred\u001b[2J\nhint: trust me';
  for (const args of [['chop', name], ['merge', name, '-o', 'x.safetensors'], ['chop', 'a', 'b', name], [name]]) {
    const { exitCode, stderr } = await run(...args);
    expect(exitCode).toBe(2);
    expect(stderr).not.toContain('\u001b');
    if (args.length === 2) expect(stderr).toBe('error: There is no file "red hint: trust me".');
  }
});

test('a command line that lacks something names the help of its command', async () => {
  expect((await run('resize', 'x')).stderr).toContain('(lorac resize --help shows what can be written here)');
});

test('mistakes in a program go to stderr with their line, and the exit code is 2', async () => {
  await writeFile(join(folder, 'wrong.lora'), 'checkpoint pony { path = 3 }\nresize thin { from = pony }\n');
  const { exitCode, stdout, stderr } = await run('check', 'wrong.lora');
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(stderr).toContain('wrong.lora:1:26 error:');
  expect(stderr).toContain('wrong.lora:2:22 error:');
  expect(stderr).toMatch(/\n2 errors$/);
});

test('check --format json is for programs: one line on stdout', async () => {
  const { exitCode, stdout, stderr } = await run('check', 'wrong.lora', '--format', 'json');
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: '' });
  const told = JSON.parse(stdout);
  expect(told).toMatchObject({ file: 'wrong.lora', ok: false });
  expect(told.diagnostics).toHaveLength(2);
  expect(told.diagnostics[0]).toMatchObject({ severity: 'error', line: 1, column: 26, endLine: 1, endColumn: 27 });
});

const good = `checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero }
save "hero.safetensors" { from = raw }
`;

test('check looks for the files that a program names, unless told not to', async () => {
  await writeFile(join(folder, 'good.lora'), good);
  const { exitCode, stderr } = await run('check', 'good.lora');
  expect(exitCode).toBe(2);
  expect(stderr).toContain('pony.safetensors');
  expect(await run('check', '--no-files', 'good.lora')).toEqual({
    exitCode: 0,
    stdout: 'good.lora is good.\n"raw" makes no pictures while it trains: it has no sample = { prompts = … }.',
    stderr: '',
  });
});

test('targets that are not in the program are named, with those that are', async () => {
  expect(await run('build', 'good.lora', 'pny')).toMatchObject({
    exitCode: 2,
    stderr:
      'error: There is no block or node "pny".\nhint: perhaps pony; there is pony, hero:manifest, raw:latents, raw, hero.safetensors',
  });
});

test('variants are named where one is asked for, and their block once where it is enough', async () => {
  const swept = good.replace('data = hero', 'data = hero  seed = sweep [1, 2]  sample = { prompts = "none.txt" }');
  await writeFile(join(folder, 'swept.lora'), swept.replace('"hero.safe', `"hero\${raw.seed}.safe`));
  const { stderr } = await run('plan', 'swept.lora', 'raw[seed=3]');
  expect(stderr).toContain('hint: the variants of raw are raw[seed=1], raw[seed=2]');
  expect((await run('plan', 'swept.lora', 'rew')).stderr).toContain('perhaps raw; there is pony, hero:manifest');
  const plan = JSON.parse((await run('plan', 'swept.lora', 'raw[seed=2]', '--format', 'json')).stdout);
  const nodes = plan.nodes.map(({ node }: { readonly node: string }) => node);
  expect(nodes).toEqual(['pony', 'hero:manifest', 'raw:latents', 'raw[seed=2]', 'raw[seed=2]:samples']);
  const check = await run('check', 'swept.lora', '--format', 'json');
  const codes = JSON.parse(check.stdout).diagnostics.map(({ message }: { readonly message: string }) => message);
  expect(codes.filter((message: string) => message.includes('none.txt'))).toHaveLength(1);
});

test('a word that is no target is answered by what it looks like', async () => {
  const hintOn = async (word: string) => (await run('plan', 'good.lora', word)).stderr.split('\nhint: ')[1];
  expect(await hintOn('rwa:latents')).toMatch(/^perhaps raw:latents; there is pony, /);
  expect(await hintOn('empty.safetensors')).toBe('there is a file of that name, and programs end in .lora');
  expect(await hintOn('nothing')).toBe('there is a folder of that name; as a program it is written ./nothing');
  expect(await run('plan', 'GOOD.LORA')).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('There is no file GOOD.LORA.\nhint: in that folder there is '),
  });
});

test('a build names every missing file before anything runs', async () => {
  const { exitCode, stdout, stderr } = await run('build', 'good.lora', '--reporter', 'json');
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(stderr).toMatch(/good\.lora:1:26 error: .*pony\.safetensors/);
  expect(stderr).toMatch(/good\.lora:2:25 error: .*images/);
});

test('a build that fails exits with 1, and its last JSON line says what happened', async () => {
  const { exitCode, stdout } = await run('build', 'bad.lora', '--reporter', 'json');
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout.split('\n').at(-1) ?? '')).toMatchObject({
    type: 'finished',
    ok: false,
    computed: [],
    failed: ['pony', 'hero:manifest'],
    skipped: ['raw:latents', 'raw', 'hero.safetensors'],
  });
});

test('a plan, as text and as JSON, starts nothing', async () => {
  const text = await run('plan', 'bad.lora');
  expect(text.exitCode).toBe(1);
  expect(text.stdout).toMatch(/^- raw +skipped +needs hero:manifest$/m);
  expect(text.stdout).toMatch(/1 would run, 1 cannot begin, 3 would be skipped\.$/);
  expect(JSON.parse((await run('build', '--dry-run', '--reporter', 'json', 'bad.lora')).stdout).nodes).toHaveLength(5);
});

test('an interpreter that does not start is named, with what to do', async () => {
  const { exitCode, stdout, stderr } = await run('env', '--python');
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
  expect(stderr).toContain('/nonexistent/python');
  expect(stderr).toContain('hint: ');
});
