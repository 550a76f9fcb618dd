// Variants in the graph: blocks like any others, which share the helpers that their sweeps make no difference to.

import { expect, test } from 'vitest';
import { compile } from '../../../src/parser/check.ts';
import { buildGraph } from '../../../src/runtime/graph/build.ts';
import type { Graph } from '../../../src/runtime/graph/graph.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { stages } from '../../../src/runtime/stages/index.ts';

const places = { folder: absolutePath('/project'), home: absolutePath('/home/me') };

function graphOf(text: string): Graph {
  const { program, diagnostics } = compile({ path: '/project/main.lora', text }, { params: new Map() });
  if (program === undefined) throw new Error(diagnostics.map(({ message }) => message).join('\n'));
  return buildGraph(program, { ...places, stages });
}

const training = (attributes: string) => `
  checkpoint pony { path = "pony.safetensors" }
  dataset hero { images = "images" }
  train raw { base = pony  data = hero  ${attributes} }`;

const idsOf = (text: string) => graphOf(text).nodes.map(({ id }) => id);

test('trainings that differ in what their latents do not depend on share these', () => {
  const graph = graphOf(training('unet_lr = sweep [1e-4, 3e-4]'));
  expect(graph.nodes.map(({ id }) => id)).toEqual([
    ...['pony', 'hero:manifest', 'raw:latents', 'raw[unet_lr=1e-4]', 'raw[unet_lr=3e-4]'],
  ]);
  for (const { inputs } of graph.nodes.slice(3)) expect(inputs.latents?.node).toBe('raw:latents');
});

test('latents are called by the values that make a difference to them', () => {
  const text = training('unet_lr = sweep [1e-4, 3e-4]  vae_precision = sweep [fp32, bf16]');
  expect(idsOf(text).filter((id) => id.endsWith(':latents'))).toEqual([
    'raw[vae_precision=fp32]:latents',
    'raw[vae_precision=bf16]:latents',
  ]);
});

test('what differs for every variant is not shared, nor are the variants themselves', () => {
  const text = training('seed = sweep [1, 2]  sample = { prompts = "p.txt" }');
  expect(idsOf(text).slice(3)).toEqual([
    ...['raw[seed=1]', 'raw[seed=1]:samples', 'raw[seed=2]', 'raw[seed=2]:samples'],
  ]);
  const twins = 'lora hero { path = "h.safetensors" } let one = 1 resize a { from = hero  spn_lora = sweep [1, one] }';
  expect(idsOf(twins)).toEqual(['hero', 'hero:decompose', 'a[spn_lora=1]', 'a[spn_lora=one]']);
});

test('all thresholds of one LoRA share its decomposition and the norms of its base', () => {
  const text = `${training('')} resize small { from = raw  thr = sweep [-3, -4, -5] } analyze what { from = small }`;
  expect(idsOf(text).filter((id) => id.startsWith('raw:') || id.startsWith('pony:'))).toEqual([
    ...['raw:latents', 'raw:decompose', 'pony:frobenius'],
    ...['-3', '-4', '-5'].map((thr) => `pony:frobenius[small[thr=${thr}]]`),
  ]);
});

test('every node comes after those that it is made from', () => {
  const text = `${training('seed = sweep [1, 2]  vae_precision = sweep [fp32, bf16]')}
    resize small { from = raw@40  thr = sweep [-3, -4] }
    preview grid { loras = [small, raw@ema(0.9)]  prompts = "p.txt" }`;
  const seen = new Set<string>();
  for (const { id, inputs } of graphOf(text).nodes) {
    for (const { node } of Object.values(inputs)) expect(seen.has(node), `${id} reads ${node}`).toBe(true);
    seen.add(id);
  }
  expect(seen.has('raw[seed=1,vae_precision=fp32]@ema(0.9)')).toBe(true);
});
