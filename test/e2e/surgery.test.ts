// Every block about LoRAs that are there already, in one program: built, built again, and changed in one place.

import { cp, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { Project } from './project.ts';

const program = `# surgery.lora
checkpoint base { path = "base.safetensors" }
lora character { path = "character.safetensors"  base = base }
lora style { path = "style.safetensors" }

chop lean { from = character  keep = [OUT01, TE1.1] }
merge both { from = { lean = 1  style = 0.6 } }
resize small { from = both  fro_ckpt = 1  thr = -2 }
resize fixed { from = style  spn_lora = 1  thr = -0.5  extract = 2 }

preview grid { loras = [lean, small]  prompts = "prompts.txt"  strengths = [0.5, 1]  mixed_precision = fp32 }
analyze what { from = lean  prompts = "what.txt"  mixed_precision = fp32 }
analyze numbers { from = small }

save "small.safetensors" { from = small  format = diffusers }
save "fixed.safetensors" { from = fixed }
save "grid.png" { from = grid }
save "what.png" { from = what }
`;

const everyNode = [
  ...['base', 'character', 'style', 'lean', 'both', 'small', 'fixed', 'grid', 'what', 'numbers'],
  ...['both:decompose', 'base:frobenius', 'style:decompose[extract=2]', 'lean:decompose', 'small:decompose'],
  ...['base:frobenius[lean]', 'base:frobenius[small]', 'what:ablation'],
  ...['small.safetensors', 'fixed.safetensors', 'grid.png', 'what.png'],
];

const withoutPython = { LORAC_PYTHON: '/nonexistent/python' };

let project: Project;

beforeAll(async () => {
  project = await Project.open();
  for (const name of ['character.safetensors', 'style.safetensors']) {
    await cp(join(inject('inputs'), name), project.path(name));
  }
  const prompt = (text: string, seed: number) => `${text} --w 64 --h 64 --s 2 --d ${seed}\n`;
  await writeFile(project.path('prompts.txt'), prompt('a red circle', 1) + prompt('a blue star', 2));
  await writeFile(project.path('what.txt'), prompt('a green cube', 3));
  await writeFile(project.path('hero.lora'), program);
});
afterAll(async () => await project[Symbol.asyncDispose]());

const sorted = (names: readonly string[]) => [...names].sort();

test('the first build makes everything, and the files are what they are called', async () => {
  const { exitCode, finished } = await project.build();
  expect(exitCode).toBe(0);
  expect(sorted(finished.computed)).toEqual(sorted(everyNode));
  for (const name of ['grid.png', 'what.png']) {
    const picture = await project.bytes(name);
    expect(picture.subarray(0, 8)).toEqual(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'));
    expect(picture.readUInt32BE(16)).toBeGreaterThan(64);
  }
  const small = await namesIn('small.safetensors');
  expect(small.filter((name) => !/^(?:unet|text_encoder|text_encoder_2)\..*\.lora_[AB]\.weight$/.test(name))).toEqual(
    [],
  );
  expect(small.some((name) => name.startsWith('unet.up_blocks.0.attentions.1.'))).toBe(true);
  const fixed = await namesIn('fixed.safetensors');
  expect(fixed.filter((name) => !/^lora_unet_\w+\.(?:alpha|lora_(?:up|down)\.weight)$/.test(name))).toEqual([]);
}, 120_000);

test('building again runs nothing and starts no Python', async () => {
  const { exitCode, finished, events } = await project.build([], withoutPython);
  expect([exitCode, finished.computed]).toEqual([0, []]);
  expect(sorted(finished.fresh)).toEqual(sorted(everyNode));
  expect(events.filter((event) => event.type === 'worker')).toEqual([]);
});

test('the parts of a merge in another order, and other words for the same blocks, change nothing', async () => {
  await project.edit('hero.lora', (text) =>
    text.replace('lean = 1  style = 0.6', 'style = 3 / 5  lean = 1').replace('[OUT01, TE1.1]', '["te1.1", OUT1]'),
  );
  expect((await project.build([], withoutPython)).finished.computed).toEqual([]);
  await writeFile(project.path('hero.lora'), program);
});

test('one weight of the merge changes what is made from it, and nothing beside it', async () => {
  await project.edit('hero.lora', (text) => text.replace('style = 0.6', 'style = 0.5'));
  const { exitCode, finished, events } = await project.build();
  expect(exitCode).toBe(0);
  const changed = ['both', 'both:decompose', 'small', 'small:decompose', 'grid', 'numbers'];
  const saved = ['small.safetensors', 'grid.png'];
  // What the modules are called is as before; how many a resize keeps may change, and with it their norms.
  const computed = finished.computed.filter((name) => name !== 'base:frobenius[small]');
  expect(sorted(computed)).toEqual(sorted([...changed, ...saved]));
  // Those without a LoRA and with "lean" are there: two prompts with "small" at two strengths are new.
  expect(picturesRendered(events, 'grid')).toBe(4);
}, 60_000);

test('one prompt changes its pictures alone', async () => {
  await project.edit('prompts.txt', (text) => text.replace('a blue star', 'a blue cube'));
  const { exitCode, finished, events } = await project.build();
  expect(exitCode).toBe(0);
  expect(sorted(finished.computed)).toEqual(['grid', 'grid.png']);
  // Of one prompt: without a LoRA, and two LoRAs at two strengths.
  expect(picturesRendered(events, 'grid')).toBe(5);
}, 60_000);

test('a LoRA that is not there is told before anything starts', async () => {
  await project.edit('hero.lora', (text) => text.replace('"style.safetensors"', '"stile.safetensors"'));
  const { exitCode, stderr } = await project.lorac(['build', 'hero.lora']);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('hero.lora:4:21');
  expect(stderr).toContain('similar name: "style.safetensors"');
  await writeFile(project.path('hero.lora'), program);
});

test('the example builds, all but its analysis, which would render for a minute', async () => {
  const example = join(import.meta.dirname, '../../examples/surgery/surgery.lora');
  await using own = await Project.open();
  await cp(example, own.path('hero.lora'));
  await rename(own.path('base.safetensors'), own.path('toy-sdxl.safetensors'));
  for (const name of ['character.safetensors', 'style.safetensors']) await cp(project.path(name), own.path(name));
  await writeFile(own.path('prompts.txt'), 'roundling --w 64 --h 64 --s 1 --d 1\n');
  const results = ['steps.png', 'both.safetensors', 'both-diffusers.safetensors'];
  const { exitCode, finished } = await own.build(results);
  expect([exitCode, finished.failed, finished.skipped]).toEqual([0, [], []]);
  for (const name of results) {
    expect((await own.bytes(name)).length).toBeGreaterThan(1000);
  }
}, 120_000);

async function namesIn(name: string): Promise<readonly string[]> {
  await using file = await SafetensorsFile.open(project.path(name));
  return [...file.header.tensors.keys()];
}

/** How many pictures a node had to render, as its progress says first; what it says later is of putting them together. */
// biome-ignore lint/suspicious/noExplicitAny: events are read as a program of the user's would read them.
function picturesRendered(events: readonly any[], node: string): number {
  const first = events.find(
    (event) => event.type === 'node-progress' && event.node === node && event.progress.unit === 'pictures',
  );
  return first?.progress.total;
}
