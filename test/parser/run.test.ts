// Commands of the user's own: what a run block has to say, and how its outputs are named.

import { expect, test } from 'vitest';
import { buildGraph } from '../../src/runtime/graph/build.ts';
import { absolutePath } from '../../src/runtime/graph/paths.ts';
import { stages } from '../../src/runtime/stages/index.ts';
import { compileFiles, compileText, expectProblems } from './marked.ts';

const hero = 'checkpoint pony { path = "pony.safetensors" } lora hero { path = "hero.safetensors" }\n';
const report = `${hero} run report { command = "x {lora} > {text}"  inputs = { lora = hero }  outputs = { text = "a.txt" } }\n`;
const half = `${hero} run half { command = "x {lora} {small}"  inputs = { lora = hero }  outputs = { small = "a.safetensors" } }\n`;

test('a run names blocks, outputs of runs and files', () => {
  const { program, diagnostics } = compileText(
    `${report} run two {
      command = "x {a} {b} {c} {d}"
      inputs = { a = hero  b = report.text  c = "tools/x.py" }
      outputs = { d = "pages/d.HTML" }
      env = { MODE = "fast" }
    }`,
  );
  expect(diagnostics).toEqual([]);
  expect(program?.blocks.at(-1)?.attributes).toMatchObject({
    inputs: {
      a: { kind: 'reference', block: 'hero' },
      b: { kind: 'reference', block: 'report', output: { name: 'text', suffix: '.txt' } },
      c: { text: 'tools/x.py' },
    },
    outputs: { d: 'pages/d.HTML' },
    env: { MODE: 'fast' },
  });
});

test('an output in .safetensors is a LoRA, with the base of those that the run reads', () => {
  const known = half.replace('hero.safetensors"', 'hero.safetensors"  base = pony');
  for (const text of [
    `${known} resize s { from = half.small }`,
    `${known} chop c { from = half.small  keep = [OUT01] } save "c.safetensors" { from = c }`,
    `${known} merge m { from = [half.small, hero] }`,
    `${known} merge m { from = { half.small = 0.5  hero = 1 } }`,
    `${known} preview p { loras = [half.small]  prompts = "p.txt" }`,
    `${known} save "c.safetensors" { from = half.small  format = diffusers }`,
    `${half.replace('inputs', 'base = pony  inputs')} resize s { from = half.small }`,
  ]) {
    expect(compileText(text).diagnostics).toEqual([]);
  }
  expectProblems(['no-base'], `${half.replace('run half', '«run half»')} resize s { from = half.small }`);
});

test('a run in a sweep has variants, and so have those that read it', () => {
  const text = `${hero} resize s { from = hero  spn_lora = 1  thr = sweep [-3, -4] }
    run count { command = "wc -c {a} > {b}"  inputs = { a = s }  outputs = { b = "b.txt" } }
    save "\${s.thr}.txt" { from = count.b }`;
  const { program, diagnostics } = compileText(text);
  expect(diagnostics).toEqual([]);
  const saves = program?.blocks.filter(({ kind }) => kind === 'save');
  expect(saves?.map(({ name, attributes }) => [name, (attributes as { from: { block: string } }).from.block])).toEqual([
    ['-3.txt', 'count[thr=-3]'],
    ['-4.txt', 'count[thr=-4]'],
  ]);
});

test('a run of another file is named with the name of the import, and begins in the folder of that file', () => {
  const { program, diagnostics } = compileFiles({
    'main.lora': 'import "tools/r.lora" as r  save "a.txt" { from = r.report.text }',
    'tools/r.lora': 'run report { command = "x > {text}"  outputs = { text = "a.txt" } }',
  });
  expect(diagnostics).toEqual([]);
  if (program === undefined) throw new Error('There is no program.');
  const { nodes } = buildGraph(program, { home: absolutePath('/home/me'), stages });
  const [made] = nodes.filter(({ id }) => id === 'r.report');
  expect(made?.settings.folder).toMatch(/[\\/]tools$/);
  expect(nodes.find(({ id }) => id === 'a.txt')?.inputs).toEqual({ file: { node: 'r.report', output: 'out.text' } });
});

test('a let can stand for a path, and for an output', () => {
  const text = `${report} let tool = "x.py"  let result = report.text
    run two { command = "x {a} {b} {c}"  inputs = { a = tool  b = result }  outputs = { c = "c" } }`;
  expect(compileText(text).diagnostics).toEqual([]);
});

test.each<[string, readonly string[], string]>([
  [
    'a name that is not declared',
    ['undeclared-name'],
    'run a { command = "x «{lorra}» > {t}"  outputs = { t = "t" } }',
  ],
  [
    'a name that is not used',
    ['unused-name'],
    'run a { command = "x > {t}"  inputs = «{ f = "f" }»  outputs = { t = "t" } }',
  ],
  ['an output that is not named', ['unused-name'], 'run a { command = "x"  outputs = «{ t = "t" }» }'],
  ['quotes around a path', ['quoted-placeholder'], `run a { command = 'x "«{t}»"'  outputs = { t = "t" } }`],
  ['no outputs', ['missing-attribute'], '«run a» { command = "x" }'],
  ['outputs without any', ['empty-list'], 'run a { command = "x"  outputs = «{ }» }'],
  ['a way out', ['output-outside'], 'run a { command = "x {t}"  outputs = «{ t = "../t" }» }'],
  ['an absolute path', ['output-outside'], 'run a { command = "x {t}"  outputs = «{ t = "/etc/t" }» }'],
  ['a drive', ['output-outside'], `run a { command = "x {t}"  outputs = «{ t = 'C:\\t' }» }`],
  ['two in one place', ['same-output'], 'run a { command = "x {t} {u}"  outputs = «{ t = "t"  u = "T" }» }'],
  ['a file in a file', ['same-output'], 'run a { command = "x {t} {u}"  outputs = «{ t = "t"  u = "t/u" }» }'],
  [
    'one name for both',
    ['input-and-output'],
    'run a { command = "x {t}"  inputs = { t = "a" }  outputs = «{ t = "t" }» }',
  ],
  [
    'a name that no shell has',
    ['odd-name'],
    'run a { command = "x {t}"  outputs = { t = "t" }  env = { «a.b» = "c" } }',
  ],
  ['a name twice', ['duplicate-attribute'], 'run a { command = "x {t}"  outputs = { t = "t"  «t» = "u" } }'],
  ['a run without its output', ['no-output'], `${report} save "a.txt" { from = «report» }`],
  ['an output that is not there', ['no-output'], `${report} save "a.txt" { from = «report.txt» }`],
  ['a text for a LoRA', ['no-lora-output'], `${report} chop c { from = «report.text»  keep = [OUT01] }`],
  ['a run for a checkpoint', ['wrong-kind'], `${report} lora l { path = "l.safetensors"  base = «report.text» }`],
  ['another ending', ['save-suffix'], `${report} «save "a.md"» { from = report.text }`],
  ['a format for a text', ['format-of-file'], `${report} save "a.txt" { from = report.text  format = «kohya» }`],
  ['a circle', ['cycle'], 'run a { command = "x {i} {o}"  inputs = { i = «a.o» }  outputs = { o = "o" } }'],
  [
    'a picture that is none',
    ['no-picture'],
    `${half.replace('hero.safetensors"', 'hero.safetensors"  base = pony')} analyze n { from = hero }
     run a { command = "x {i} {o}"  inputs = { i = «n» }  outputs = { o = "o" } }`,
  ],
])('%s is a problem: %j', (_, codes, text) => {
  expectProblems(codes, text);
});

test('the pictures of a training together are outputs of it, in a sweep of each variant', () => {
  const training = (rest: string) => `checkpoint pony { path = "pony.safetensors" } dataset hero { images = "x" }
    train raw { base = pony  data = hero  ${rest} }`;
  const pictured = training('sample = { prompts = "p.txt" }  seed = sweep [1, 2]');
  const text = `${pictured} save "\${raw.seed}.webp" { from = raw.animation }
    run look { command = "x {a} {b}"  inputs = { a = raw.montage[seed=1] }  outputs = { b = "b.txt" } }`;
  const { program, diagnostics } = compileText(text);
  expect(diagnostics).toEqual([]);
  if (program === undefined) throw new Error('There is no program.');
  const { nodes } = buildGraph(program, { home: absolutePath('/home/me'), stages });
  const inputsOf = (name: string) => nodes.find(({ id }) => id === name)?.inputs;
  expect(inputsOf('2.webp')).toEqual({ file: { node: 'raw[seed=2]:samples', output: 'animation' } });
  expect(inputsOf('look')).toEqual({ 'in.a': { node: 'raw[seed=1]:samples', output: 'montage' } });
  expectProblems(['no-output'], `${training('')} save "m.png" { from = «raw.montage» }`);
  expectProblems(['no-output'], `${pictured} save "m.png" { from = «raw.montge» }`);
  expectProblems(['no-lora-output'], `${pictured} chop tiny { from = «raw.montage»  keep = [OUT01] }`);
  expectProblems(['save-suffix'], `${pictured} «save "m.jpg"» { from = raw.montage }`);
});
