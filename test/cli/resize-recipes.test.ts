// Recipes as people have them in their fingers, the names of what they give, and the graph that makes it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type JobPart, resizeGraph } from '../../src/cli/resize-graph.ts';
import { readRecipes } from '../../src/cli/resize-recipes.ts';
import { UsageError } from '../../src/cli/usage-error.ts';
import { absolutePath } from '../../src/runtime/graph/paths.ts';
import { resizedName } from '../../src/runtime/surgery/resize/name.ts';

test('recipes are keys with numbers, and a bare score key weighs 1', () => {
  expect(readRecipes('fro_ckpt=1,thr=-3.55')).toEqual([{ fro_ckpt: 1, thr: -3.55 }]);
  expect(readRecipes('spn_lora, size=20 : sv_fro=0.9,max_rank=16')).toEqual([
    { spn_lora: 1, size: 20 },
    { sv_fro: 0.9, max_rank: 16 },
  ]);
});

test('a key with several numbers makes a recipe of each', () => {
  expect(readRecipes('fro_ckpt=1,thr=-3/-3.5 / -4')).toEqual([
    { fro_ckpt: 1, thr: -3 },
    { fro_ckpt: 1, thr: -3.5 },
    { fro_ckpt: 1, thr: -4 },
  ]);
  expect(readRecipes('max_rank=4/8,rescale=1/2:size=20')).toEqual([
    { max_rank: 4, rescale: 1 },
    { max_rank: 4, rescale: 2 },
    { max_rank: 8, rescale: 1 },
    { max_rank: 8, rescale: 2 },
    { size: 20 },
  ]);
});

test.each([
  ['thr=-3/', 'thr is "", and that is no number.'],
  ['fro_ckpt=1,,thr=-3', 'has an empty part'],
  [',thr=-3', 'has an empty part'],
  ['fro_ckpt/spn_ckpt', 'has the unknown key "fro_ckpt/spn_ckpt"'],
  ['fro_ckpt=1,tresh=-3', 'The recipe "fro_ckpt=1,tresh=-3" has the unknown key "tresh".'],
  ['', 'The recipe "" has an empty part.'],
  ['fro_ckpt=1,', 'has an empty part'],
  ['thr', 'In the recipe "thr" thr has no number.'],
  ['thr=', 'thr is "", and that is no number.'],
  ['fro_ckpt=x', 'fro_ckpt is "x", and that is no number.'],
  ['thr=-3,thr=-4', 'The recipe "thr=-3,thr=-4" has thr twice.'],
  ['size=0', 'size is 0, and it has to be above 0.'],
  ['max_rank=1.5', 'max_rank is 1.5, and it has to be a whole number of at least 1.'],
  ['sv_fro=90', 'sv_fro is 90, and it has to be above 0 and at most 1.'],
  ['extract=0', 'extract is 0, and it has to be a whole number from 1 to 1024.'],
  ['min_rank=4,max_rank=2', 'min_rank is 4, and max_rank is 2.'],
  ['fro_ckpt=1,params=-1', 'In the recipe "fro_ckpt=1,params=-1": The weights of'],
])('%s is refused', (text, message) => {
  expect(() => readRecipes(text)).toThrow(UsageError);
  expect(() => readRecipes(text)).toThrow(message);
});

interface Golden {
  readonly recipe: string;
  readonly output_name: string;
  readonly threshold: number | null;
}
const golden = JSON.parse(
  readFileSync(join(import.meta.dirname, '../fixtures/golden/resize/expected.json'), 'utf8'),
) as readonly Golden[];

test.each(golden)('$recipe gives $output_name', ({ recipe, output_name, threshold }) => {
  const [written = {}] = readRecipes(recipe);
  expect(resizedName('lora', written, threshold ?? 'none')).toBe(output_name);
});

test('names tell apart what is written differently', () => {
  const named = (recipe: string) => resizedName('hero', readRecipes(recipe)[0] ?? {}, undefined);
  expect(named('fro_ckpt=1,thr=-3.551')).toBe('hero_frockpt1_th-3.551.safetensors');
  expect(named('sv_fro=0.9,max_rank=16')).toBe('hero_maxrank16_svfro0.9.safetensors');
  expect(named('spn_lora=1,thr=-1,min_rank=1')).toBe('hero_spnlora1_minrank1_th-1.safetensors');
  expect(named('min_rank=1')).toBe('hero_frockpt1_minrank1_th-3.55.safetensors');
  expect(named('extract=64')).toBe('hero_frockpt1_extract64_th-3.55.safetensors');
});

function graphOf(
  recipes: string,
  loras: readonly (string | readonly Partial<JobPart>[])[] = ['/x/hero.safetensors'],
  folder?: string,
) {
  const part = (given: Partial<JobPart>): JobPart => ({
    path: absolutePath('/x/hero.safetensors'),
    weight: 1,
    isCanonical: true,
    needsBase: false,
    ...given,
  });
  return resizeGraph({
    base: { checkpoint: absolutePath('/x/pony.safetensors') },
    loras: loras.map((parts) => (typeof parts === 'string' ? [part({ path: absolutePath(parts) })] : parts.map(part))),
    recipes: readRecipes(recipes),
    folder: folder === undefined ? undefined : absolutePath(folder),
    overwrite: false,
  });
}

test('several recipes share one decomposition, and only what they name is computed', () => {
  const ids = (recipes: string) => graphOf(recipes).nodes.map(({ id }) => id);
  expect(ids('fro_ckpt=1,thr=-3:fro_ckpt=1,spn_ckpt=1,thr=-2')).toEqual([
    'hero:decompose',
    'hero:frobenius',
    'hero:spectral',
    'hero_frockpt1_th-3',
    'hero_frockpt0.5_spnckpt0.5_th-2',
  ]);
  expect(ids('max_rank=4')).toEqual(['hero:decompose', 'hero_maxrank4']);
  const [, , , first] = graphOf('fro_ckpt=1,thr=-3:fro_ckpt=1,spn_ckpt=1,thr=-2').nodes;
  expect(Object.keys(first?.inputs ?? {})).toEqual(['factors', 'frobenius']);
});

test('a recipe that extracts has a decomposition of its own, and numbers of its own', () => {
  const { nodes } = graphOf('thr=-3:thr=-3,extract=64', [[{ needsBase: true }]]);
  expect(nodes.map(({ id }) => id)).toEqual([
    'hero:decompose',
    'hero:frobenius',
    'hero:decompose[extract=64]',
    'hero:frobenius[extract=64]',
    'hero_frockpt1_th-3',
    'hero_frockpt1_extract64_th-3',
  ]);
  expect(nodes[0]).toMatchObject({ attributes: {}, files: { lora: '/x/hero.safetensors' } });
  expect(nodes[2]).toMatchObject({
    attributes: { extract: 64 },
    files: { lora: '/x/hero.safetensors', checkpoint: '/x/pony.safetensors' },
  });
  const [, , other] = graphOf('extract=64').nodes;
  expect(graphOf('extract=64').nodes[0]?.files).toEqual({ lora: '/x/hero.safetensors' });
  expect(other?.inputs.factors).toEqual({ node: 'hero:decompose[extract=64]', output: 'factors' });
});

test('a file in another form is brought into ours first, once for all that read it', () => {
  const { nodes } = graphOf('thr=-3:max_rank=4', [[{ isCanonical: false }]]);
  expect(nodes.map(({ id }) => id)).toEqual([
    'hero:lora',
    'hero:decompose',
    'hero:frobenius',
    'hero_frockpt1_th-3',
    'hero_maxrank4',
  ]);
  const adopted = { node: 'hero:lora', output: 'lora' };
  expect(nodes[1]).toMatchObject({ files: {}, inputs: { lora: adopted } });
  expect(nodes[3]).toMatchObject({ files: {}, inputs: { lora: adopted } });
});

test('a sum of files is made in singles before it is resized', () => {
  const style = absolutePath('/y/style.safetensors');
  const { nodes } = graphOf('max_rank=4', [
    [
      { weight: 0.5, isCanonical: false },
      { path: style, weight: -0.25 },
    ],
  ]);
  expect(nodes.map(({ id }) => id)).toEqual([
    'hero:lora',
    'hero0.5+style-0.25:merge',
    'hero0.5+style-0.25:decompose',
    'hero0.5+style-0.25_maxrank4',
  ]);
  expect(nodes[1]).toMatchObject({
    attributes: { weights: [0.5, -0.25], precision: 'fp32' },
    files: { 'lora.1': '/y/style.safetensors' },
    inputs: { 'lora.0': { node: 'hero:lora', output: 'lora' } },
  });
  expect(nodes[3]?.placement?.target).toBe('/x/hero0.5+style-0.25_maxrank4.safetensors');
  expect(graphOf('max_rank=4', [[{ weight: 0.5 }]]).nodes[0]).toMatchObject({ id: 'hero0.5:merge' });
});

test('results lie beside their LoRA, or in the folder that is named', () => {
  const target = (folder?: string) => graphOf('thr=-3', undefined, folder).nodes.at(-1)?.placement?.target;
  expect(target()).toBe('/x/hero_frockpt1_th-3.safetensors');
  expect(target('/y')).toBe('/y/hero_frockpt1_th-3.safetensors');
});

test('results that would bear one name are refused before anything runs', () => {
  expect(() => graphOf('thr=-3:fro_ckpt=1,thr=-3')).toThrow('Two recipes would give "hero_frockpt1_th-3".');
  const twins = ['/x/hero.safetensors', '/y/hero.safetensors'];
  expect(graphOf('thr=-3', twins).nodes).toHaveLength(6);
  expect(() => graphOf('thr=-3', twins, '/z')).toThrow(
    'Two LoRAs would both give "hero_frockpt1_th-3.safetensors" in "/z".',
  );
});
