// What an analysis says: its numbers against numbers by hand, its words, and that what it proposes can be pasted.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { analyzeGraph } from '../../../src/cli/analyze-graph.ts';
import { compile } from '../../../src/parser/check.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import type { RunEvent } from '../../../src/runtime/events.ts';
import { runBuild } from '../../../src/runtime/executor/build.ts';
import { blockWeights } from '../../../src/runtime/sdxl/block-weights.ts';
import type { AnalyzeReport } from '../../../src/runtime/stages/analyze.ts';
import { type ModuleNumbers, numbersByBlock } from '../../../src/runtime/stages/pictures/analysis-numbers.ts';
import { proposalOf } from '../../../src/runtime/stages/pictures/analysis-proposal.ts';
import { reportLines, shortLines } from '../../../src/runtime/stages/pictures/analysis-text.ts';
import type { SamplePrompt } from '../../../src/runtime/worker/protocol.ts';
import { startFakeWorker } from '../../helpers/fake-worker.ts';
import { outputOf } from '../../helpers/lab.ts';
import { settle } from '../../helpers/settle.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { writeLora } from './lora-files.ts';
import { openWorkerLab } from './worker-lab.ts';

function module(name: string, block: string, sigma: readonly number[], baseNorm?: number): ModuleNumbers {
  return { name, block, sigma: Float32Array.from(sigma), norm: undefined, baseNorm };
}

test('norms of a block are those of all its modules together, and its ratio is over those that the base has', () => {
  const { whole, blocks } = numbersByBlock(
    [
      module('a', 'OUT01', [3, 0], 10),
      module('b', 'OUT01', [4], undefined),
      module('c', 'IN04', [12], 24),
      { name: 'd', block: 'IN04', sigma: undefined, norm: 5, baseNorm: 7 },
    ],
    ['IN04', 'MID00', 'OUT01'],
  );
  expect(blocks.map(({ block }) => block)).toEqual(['IN04', 'OUT01']);
  expect(blocks[1]).toMatchObject({ modules: 2, decomposed: 2, norm: 5, baseNorm: 10, ratio: 0.3 });
  expect(blocks[0]).toMatchObject({ modules: 2, decomposed: 1, norm: 13, baseNorm: 25, ratio: 13 / 25 });
  expect(whole).toMatchObject({ modules: 4, decomposed: 3, norm: Math.hypot(13, 5) });
});

test('a rank holds a share of the energy when every module of the block is cut to it', () => {
  // Energies by rank: 16 + 9, 4 + 4, 1, 1.
  const { blocks } = numbersByBlock([module('a', 'OUT01', [4, 2, 1, 1]), module('b', 'OUT01', [3, 2])], ['OUT01']);
  expect(blocks[0]?.spectrum).toMatchObject({
    directions: 6,
    strongest: { sigma: 4, module: 'a' },
    rank50: 1,
    rank90: 2,
    rank99: 4,
  });
});

test('the effective rank counts equal directions in full, and one direction as one', () => {
  const of = (sigma: readonly number[]) => numbersByBlock([module('a', 'X', sigma)], []).blocks[0]?.spectrum;
  expect(of([2, 2, 2, 2])?.effectiveRank).toBeCloseTo(4);
  expect(of([7, 0, 0])?.effectiveRank).toBeCloseTo(1);
  // exp of the entropy of 0.75, 0.25.
  expect(of([3, 1])?.effectiveRank).toBeCloseTo(Math.exp(-(0.75 * Math.log(0.75) + 0.25 * Math.log(0.25))));
  expect(of([0, 0])).toMatchObject({ effectiveRank: 0, rank50: 0, rank99: 0 });
});

test.each([
  [
    ['OUT01', 'IN04'],
    ['IN04', 'OUT01', 'TE1', 'TE2'],
  ],
  [
    ['TE2', 'OUT01'],
    ['IN04', 'OUT01', 'TE1', 'TE2'],
  ],
  [
    ['OUT01', 'TE1'],
    ['IN04', 'OUT01', 'TE1'],
  ],
  [['REST'], ['OUT01', 'REST']],
])('what is proposed for %j of %j keeps these blocks and no others when it is pasted', (keep, blocks) => {
  const { chop, options } = proposalOf({ keep, share: 0.9 }, { wanted: 0.8, blocks, label: 'small' });
  const text = `checkpoint pony { path = "a" }\nlora small { path = "b" }\n${chop}\n`;
  const { program, diagnostics } = compile({ path: 'x.lora', text }, { params: new Map() });
  expect(diagnostics).toEqual([]);
  const block = program?.blocks.find(({ name }) => name === 'small_kept');
  if (block?.kind !== 'chop') throw new Error('no chop');
  const weights = blockWeights(block.attributes);
  expect(blocks.filter((name) => weights[name] !== undefined)).toEqual(blocks.filter((name) => keep.includes(name)));
  const [verb, named, ...encoders] = options ?? [];
  const typed = {
    [verb?.slice(2) ?? '']: named?.split(','),
    ...(encoders.length > 0 && { text_encoders: 'drop' as const }),
  };
  expect(blockWeights(typed)).toEqual(weights);
});

test('what is proposed names what goes where that is shorter than what stays', () => {
  const blocks = ['IN01', 'IN02', 'MID00', 'OUT00', 'OUT01', 'TE1', 'TE2'];
  const proposed = (keep: readonly string[]) => proposalOf({ keep, share: 0.9 }, { wanted: 0.8, blocks, label: 'a' });
  expect(proposed(['IN01', 'IN02', 'MID00', 'OUT00', 'OUT01', 'TE2'])).toMatchObject({
    chop: 'chop a_kept { from = a  drop = [TE1] }',
    options: ['--drop', 'TE1'],
  });
  expect(proposed(['OUT01'])).toMatchObject({ options: ['--keep', 'OUT01', '--text-encoders', 'drop'] });
});

test('where all blocks are to be kept there is nothing to chop', () => {
  const kept = { keep: ['TE1', 'OUT01'], share: 1 };
  expect(proposalOf(kept, { wanted: 0.9, blocks: ['OUT01', 'TE1'], label: 'a' })).toMatchObject({
    chop: null,
    options: null,
  });
});

test('a LoRA whose file has an odd name is still proposed in words that the language reads', () => {
  const { chop } = proposalOf({ keep: ['OUT01'], share: 1 }, { wanted: 1, blocks: ['OUT01', 'IN04'], label: '2 b-c' });
  expect(chop).toBe('chop _2_b_c_kept { from = _2_b_c  keep = [OUT01] }');
});

const prompt: SamplePrompt = {
  prompt: 'a \u001b[31mcat',
  negative_prompt: '',
  width: 1024,
  height: 1024,
  seed: 7,
  steps: 20,
  scale: 7.5,
  sampler: 'euler_a',
};

function exampleReport(): AnalyzeReport {
  const numbers = numbersByBlock(
    [module('a', 'IN04', [1, 0.1], 200), module('b', 'OUT01', [3, 2, 1], 100), module('c', 'TE1', [0.5], 50)],
    ['IN04', 'OUT01', 'TE1'],
  );
  const effects = [
    { block: 'IN04', only: -0.02, without: 0.04, effect: 0.01 },
    { block: 'OUT01', only: 0.7, without: 0.8, effect: 0.75 },
    { block: 'TE1', only: 0.2, without: 0.3, effect: 0.25 },
  ];
  const ranking = ['OUT01', 'TE1', 'IN04'];
  const kept = { keep: ['OUT01', 'TE1'], share: 0.934 };
  const apart = { fromAll: 0.1, fromNone: 0.1 };
  const blocks = Object.fromEntries(ranking.map((block) => [block, { only: apart, without: apart }]));
  return {
    label: 'small',
    ...numbers,
    notes: [],
    ablation: {
      prompts: [{ prompt, distance: 0.1234, floor: 0.03, blocks }],
      blocks: effects,
      ranking,
      mixed_precision: 'bf16',
      floor: 0.25,
      unsure: ['TE1', 'IN04'],
      wanted: 0.8,
      proposal: kept,
      tried: [kept],
    },
    proposal: proposalOf(kept, { wanted: 0.8, blocks: ['IN04', 'OUT01', 'TE1'], label: 'small' }),
  };
}

test('the report shows numbers, heat, the ranking and what to write', () => {
  expect(reportLines(exampleReport(), { color: false }).join('\n')).toMatchInlineSnapshot(`
    "small: 3 blocks, 3 modules, ‖ΔW‖ 3.906, ‖ΔW‖/‖W‖ 1.70e-2

    ‖ΔW‖/‖W‖  IN ▂  OUT █  TE1 ▃
    only      IN ▁  OUT █  TE1 ▃
    without   IN ▁  OUT █  TE1 ▄

    block     modules    ‖ΔW‖  ‖ΔW‖/‖W‖  rank 90 %  effective  only  without  no.
    IN04   ▁        1   1.005   5.02e-3          1        1.4  −2 %      4 %   ~3
    OUT01  █        1   3.742   3.74e-2          2        2.7  70 %     80 %    1
    TE1    ▃        1  0.5000   1.00e-2          1        1.0  20 %     30 %   ~2

    shares below 25 % are rounding, and so may be the order of places with ~; mixed precision fp32 lowers that

    how far all of it moves the picture of each prompt (0 nothing, 1 black against white)
      0.1234  a cat (seed 7, 1024×1024)

    2 of 3 blocks keep 93 % of the effect in these pictures (80 % wanted):
      chop small_kept { from = small  drop = [IN04] }"
  `);
});

test('for a file of the user the report ends with the command to type', () => {
  const lines = reportLines(exampleReport(), { color: false, file: "my hero's.safetensors" });
  expect(lines).toContain("  lorac chop 'my hero'\\''s.safetensors' --drop IN04");
});

test('what fits beside the progress of a build names the strongest blocks and the proposal', () => {
  const report = exampleReport();
  expect(shortLines(report)).toEqual([
    'most of the effect: OUT01 75 %',
    'shares below 25 % are rounding, and so may be the order of places with ~; mixed precision fp32 lowers that',
    '2 of 3 blocks keep 93 % of the effect in these pictures (80 % wanted):',
    '  chop small_kept { from = small  drop = [IN04] }',
  ]);
  expect(shortLines({ ...report, ablation: null, proposal: null })).toEqual([
    'strongest by ‖ΔW‖/‖W‖: OUT01 3.74e-2, TE1 1.00e-2, IN04 5.02e-3',
  ]);
});

const program = `
checkpoint pony { path = "pony.safetensors" }
lora hero { path = "hero.safetensors"  base = pony }
analyze what { from = hero  prompts = "prompts.txt"  share = 0.6 }
`;

test('an analysis in a program joins numbers and pictures, and a changed prompt leaves the numbers', async () => {
  using lab = await openWorkerLab(program, { 'prompts.txt': 'a cat --d 1\n' });
  await writeLora(lab.at('hero.safetensors'));
  await settle();
  const first = await lab.build();
  expect(first.failures).toEqual({});
  const report = JSON.parse(await outputOf(lab, 'what', 'report')) as AnalyzeReport;
  expect(report.label).toBe('hero');
  expect(report.blocks.map(({ block }) => block)).toEqual(['IN04', 'MID00', 'OUT01', 'TE1', 'TE2']);
  // The fake worker takes every base weight for one of norm 10.
  for (const { norm, ratio } of report.blocks) expect(ratio).toBeCloseTo((norm ?? Number.NaN) / 10);
  expect(report.ablation?.blocks).toHaveLength(5);
  expect(report.proposal?.share).toBeGreaterThanOrEqual(0.6);
  const text = readFileSync(lab.at('.lorac/runs/what/report.txt'), 'utf8');
  expect(text).toContain('hero: 5 blocks, 5 modules');
  expect(readFileSync(lab.at('.lorac/runs/what/grid.png')).length).toBeGreaterThan(50);
  lab.write({ 'prompts.txt': 'a dog --d 1\n' });
  await settle();
  const { statuses } = await lab.build();
  expect(statuses).toMatchObject({ 'hero:decompose': 'fresh', 'pony:frobenius': 'fresh', 'what:ablation': 'computed' });
});

test('what an analysis found is told as results, which stay on the screen', async () => {
  using lab = await openWorkerLab(program, { 'prompts.txt': 'a cat --d 1\n' });
  await writeLora(lab.at('hero.safetensors'));
  await settle();
  const { events } = await lab.build();
  const results = events.flatMap((event) => {
    const isResult =
      event.type === 'node-progress' && event.progress.type === 'log' && event.progress.level === 'result';
    return isResult && event.progress.type === 'log' ? [event.progress.message] : [];
  });
  expect(results[0]).toMatch(/^most of the effect: /);
  expect(results.slice(-2)).toEqual([lab.at('.lorac/runs/what/grid.png'), lab.at('.lorac/runs/what/report.txt')]);
});

test('without prompts there are numbers, and nothing is rendered', async () => {
  using lab = await openWorkerLab(program.replace('prompts = "prompts.txt"', ''));
  await writeLora(lab.at('hero.safetensors'));
  await settle();
  const { asked, failures } = await lab.build();
  expect(failures).toEqual({});
  expect(asked.map(({ op }) => op)).toEqual(['decompose', 'frobenius']);
  const report = JSON.parse(await outputOf(lab, 'what', 'report')) as AnalyzeReport;
  expect([report.ablation, report.proposal]).toEqual([null, null]);
});

test('the command on files places the report and the grid, and a file of any other spelling is adopted first', async () => {
  using folder = temporaryFolder();
  folder.write({ 'pony.safetensors': 'a checkpoint', 'prompts.txt': 'a cat --d 1\n' });
  await writeLora(folder.at('hero.safetensors'));
  await settle();
  const graph = (isCanonical: boolean) =>
    analyzeGraph({
      lora: folder.at('hero.safetensors'),
      isCanonical,
      base: { checkpoint: folder.at('pony.safetensors') },
      whole: { checkpoint: folder.at('pony.safetensors') },
      prompts: folder.at('prompts.txt'),
      share: 0.8,
      mixed_precision: 'bf16',
      folder: folder.at('hero-analysis'),
      overwrite: false,
    });
  const events: RunEvent[] = [];
  const finished = await runBuild({
    graph: graph(true),
    store: new Store(folder.at('.lorac')),
    listener: (event) => events.push(event),
    startWorker: () => startFakeWorker(),
  });
  expect(finished).toMatchObject({ ok: true, computed: expect.arrayContaining(['hero', 'hero:ablation']) });
  const report = JSON.parse(readFileSync(folder.at('hero-analysis/report.json'), 'utf8')) as AnalyzeReport;
  expect(report.blocks).toHaveLength(5);
  expect(readFileSync(folder.at('hero-analysis/grid.png')).length).toBeGreaterThan(50);
  // It is printed by the command itself.
  const isResult = (event: RunEvent) =>
    event.type === 'node-progress' && event.progress.type === 'log' && event.progress.level === 'result';
  expect(events.some(isResult)).toBe(false);
  const adopting = graph(false);
  expect(adopting.nodes[0]).toMatchObject({ id: 'hero:lora', files: { lora: folder.at('hero.safetensors') } });
  for (const { id, files, inputs } of adopting.nodes.slice(1)) {
    expect(files.lora).toBeUndefined();
    if (id !== 'hero:frobenius') expect(inputs.lora).toEqual({ node: 'hero:lora', output: 'lora' });
  }
});
