// Which nodes the blocks about LoRAs become, and what holds for the graph of every program.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../../src/parser/check.ts';
import { buildGraph } from '../../../src/runtime/graph/build.ts';
import type { Graph, GraphNode } from '../../../src/runtime/graph/graph.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { stages } from '../../../src/runtime/stages/index.ts';

const places = { home: absolutePath('/home/me') };

function graphOf(text: string): Graph {
  const { program, diagnostics } = compile({ path: '/project/main.lora', text }, { params: new Map() });
  if (program === undefined) throw new Error(`${diagnostics.map(({ message }) => message).join('\n')}\n${text}`);
  return buildGraph(program, { ...places, stages });
}

function node(graph: Graph, id: string): GraphNode {
  const found = graph.nodes.find((each) => each.id === id);
  if (found === undefined) throw new Error(`There is no "${id}".`);
  return found;
}

/** What a node reads: `lora ← raw.lora`. */
const read = (graph: Graph, id: string) =>
  Object.fromEntries(
    Object.entries(node(graph, id).inputs).map(([role, { node: from, output }]) => [role, `${from}.${output}`]),
  );

const loras = `
checkpoint pony { path = "models/pony.safetensors" }
lora hero  { path = "~/loras/hero.safetensors"  base = pony }
lora style { path = "style.safetensors" }
`;

test('a lora block is the file that it names', () => {
  const { stage, files, inputs, attributes } = node(graphOf(loras), 'hero');
  expect([stage.name, files, inputs, attributes]).toEqual([
    'lora',
    { lora: '/home/me/loras/hero.safetensors' },
    {},
    {},
  ]);
});

test('a merge reads its parts in the order of their names, whatever the order in the program', () => {
  const merge = (from: string) => {
    const graph = graphOf(`${loras} merge both { from = ${from} }`);
    return [node(graph, 'both').attributes, read(graph, 'both')];
  };
  const wanted = [
    { weights: [0.8, -0.5], precision: 'fp16' },
    { 'lora.0': 'hero.lora', 'lora.1': 'style.lora' },
  ];
  expect(merge('{ hero = 0.8  style = -0.5 }')).toEqual(wanted);
  expect(merge('{ style = -0.5  hero = 0.8 }')).toEqual(wanted);
  expect(merge('[style, hero]')).toEqual(merge('[hero, style]'));
});

test('a preview keeps the order of its LoRAs, and renders with their base unless it names its own', () => {
  const preview = `preview grid { loras = [style, hero]  strengths = [0.5, 1]  prompts = "p.txt"`;
  const graph = graphOf(`${loras} ${preview} }`);
  const { stage, attributes, files } = node(graph, 'grid');
  expect(stage.name).toBe('preview');
  expect(attributes).toEqual({
    labels: ['style', 'hero'],
    strengths: [0.5, 1],
    without: true,
    sampler: 'euler_a',
    mixed_precision: 'bf16',
  });
  expect(files).toEqual({ checkpoint: '/project/models/pony.safetensors', prompts: '/project/p.txt' });
  expect(read(graph, 'grid')).toEqual({ 'lora.0': 'style.lora', 'lora.1': 'hero.lora' });
  const own = graphOf(`${loras} checkpoint other { path = "other.safetensors" } ${preview} base = other }`);
  expect(node(own, 'grid').files.checkpoint).toBe('/project/other.safetensors');
});

test('an analyze shares its decomposition and norms with a resize, and ablates only with prompts', () => {
  const graph = graphOf(`${loras} resize small { from = hero }
    analyze numbers { from = hero }
    analyze all { from = hero  prompts = "p.txt"  share = 0.9 }
    save "all.png" { from = all }`);
  expect(graph.nodes.map(({ id, stage }) => `${id}: ${stage.name}`)).toEqual([
    'pony: checkpoint',
    'hero: lora',
    'style: lora',
    'hero:decompose: decompose',
    'pony:frobenius: frobenius',
    'small: resize',
    'numbers: analyze',
    'all:ablation: ablation',
    'all: analyze',
    'all.png: savePicture',
  ]);
  const shared = { lora: 'hero.lora', factors: 'hero:decompose.factors', frobenius: 'pony:frobenius.numbers' };
  expect(read(graph, 'numbers')).toEqual(shared);
  expect(read(graph, 'all')).toEqual({ ...shared, ablation: 'all:ablation.ablation', grid: 'all:ablation.grid' });
  expect(node(graph, 'all').attributes).toEqual({ label: 'hero', share: 0.9 });
  expect(node(graph, 'all:ablation')).toMatchObject({
    attributes: { share: 0.9, sampler: 'euler_a', mixed_precision: 'bf16' },
    files: { checkpoint: '/project/models/pony.safetensors', prompts: '/project/p.txt' },
  });
  expect(read(graph, 'all:ablation')).toEqual({ lora: 'hero.lora' });
  expect(read(graph, 'all.png')).toEqual({ picture: 'all.grid' });
  expect(node(graph, 'all.png').placement).toEqual({
    output: 'picture',
    target: '/project/all.png',
    overwrite: false,
  });
});

test('a LoRA compared with another checkpoint has norms of that one', () => {
  const graph = graphOf(`${loras} checkpoint other { path = "other.safetensors" }
    resize small { from = hero } analyze what { from = hero  base = other }`);
  expect(read(graph, 'small').frobenius).toBe('pony:frobenius.numbers');
  expect(read(graph, 'what').frobenius).toBe('other:frobenius.numbers');
  expect(node(graph, 'other:frobenius').files).toEqual({ checkpoint: '/project/other.safetensors' });
});

test('an extraction is a decomposition of its own, with numbers of its own', () => {
  const graph = graphOf(`${loras} resize plain { from = hero  fro_ckpt = 1  subspace = 1 }
    resize deep { from = hero  fro_ckpt = 1  subspace = 1  extract = 64 }
    resize same { from = hero  spn_lora = 1  extract = 64 }
    resize loose { from = style  spn_lora = 1  extract = 64 }`);
  expect(read(graph, 'plain')).toEqual({
    lora: 'hero.lora',
    factors: 'hero:decompose.factors',
    frobenius: 'pony:frobenius.numbers',
    projections: 'hero:projections.numbers',
  });
  expect(read(graph, 'deep')).toEqual({
    lora: 'hero.lora',
    factors: 'hero:decompose[extract=64].factors',
    frobenius: 'pony:frobenius[hero[extract=64]].numbers',
    projections: 'hero:projections[extract=64].numbers',
  });
  expect(read(graph, 'same').factors).toBe('hero:decompose[extract=64].factors');
  expect(node(graph, 'hero:decompose').attributes).toEqual({});
  expect(node(graph, 'hero:decompose[extract=64]')).toMatchObject({
    attributes: { extract: 64 },
    files: { checkpoint: '/project/models/pony.safetensors' },
  });
  expect(node(graph, 'style:decompose[extract=64]').files).toEqual({});
});

test('the format of a save is part of what it gives', () => {
  const graph = graphOf(`${loras} save "a.safetensors" { from = hero  format = kohya-diffusers }`);
  expect(node(graph, 'a.safetensors').attributes).toEqual({ title: 'a', format: 'kohya-diffusers' });
});

test('a sum of sums of sums is built without taking every way through them', () => {
  const levels = Array.from({ length: 200 }, (_, level) => {
    const below = level === 0 ? '[hero, style]' : `[a${level - 1}, b${level - 1}]`;
    return `merge a${level} { from = ${below} } merge b${level} { from = ${below} }`;
  });
  expect(graphOf(`${loras} ${levels.join('\n')}`).nodes).toHaveLength(403);
});

test('a chain of thousands of blocks is built', () => {
  const chain = Array.from({ length: 5000 }, (_, index) => `chop c${index} { from = c${index + 1}  keep = [OUT01] }`);
  expect(graphOf(`${loras} ${chain.join('\n')} chop c5000 { from = hero  keep = [MID] }`).nodes).toHaveLength(5004);
});

/** Programs in which block n is made from earlier ones, written in any order. */
const programs = fc
  .array(fc.tuple(fc.nat(11), fc.nat(), fc.nat(), fc.boolean()), { minLength: 1, maxLength: 25 })
  .chain((choices) => fc.tuple(fc.constant(choices), fc.shuffledSubarray(choices.map((_, index) => index))))
  .map(([choices, order]) => {
    const names = ['raw', 'hero', 'other'];
    const pictures: string[] = [];
    const blocks = choices.map(([kind, one, two, flag], index) => {
      const from = names[one % names.length] as string;
      const second = names[two % names.length] as string;
      const several = from === second ? `[${from}]` : `[${from}, ${second}]`;
      const name = `b${index}`;
      const lora = (text: string) => {
        names.push(name);
        return text;
      };
      const picture = (text: string) => {
        pictures.push(name);
        return text;
      };
      switch (kind) {
        case 0:
          return lora(`lora ${name} { path = "${name}.safetensors"  base = ${flag ? 'pony' : 'illu'} }`);
        case 1:
          return lora(`resize ${name} { from = ${from} ${flag ? 'extract = 8' : ''} }`);
        case 2:
          return lora(`resize ${name} { from = ${from}  spn_ckpt = 1  subspace = 1 ${flag ? 'extract = 8' : ''} }`);
        case 3:
          return lora(`chop ${name} { from = ${from}  drop = [TE1.3] }`);
        case 4:
          return lora(`merge ${name} { from = ${several} }`);
        case 5:
          return lora(`merge ${name} { from = { ${from} = ${flag ? 1 : -2} } }`);
        case 6:
          return picture(`preview ${name} { loras = ${several}  base = pony  prompts = "p.txt" }`);
        case 7:
          return picture(`analyze ${name} { from = ${from} ${flag ? 'base = illu' : ''}  prompts = "p.txt" }`);
        case 8:
          return `analyze ${name} { from = ${from} }`;
        case 9:
          return `save "${flag ? 'save:' : 'sub/'}${name}.safetensors" { from = ${from} }`;
        case 10: {
          const made = pictures[one % Math.max(pictures.length, 1)];
          return made === undefined ? '' : `save "${name}.png" { from = ${made} }`;
        }
        default:
          return lora(`train ${name} { base = pony  data = images ${flag ? 'sample = { prompts = "p.txt" }' : ''} }`);
      }
    });
    // What the others need stands in the middle of them.
    const written = order.map((index) => blocks[index]);
    const missing = blocks.filter((_, index) => !order.includes(index));
    const roots = `checkpoint pony { path = "pony.safetensors" } checkpoint illu { path = "illu.safetensors" }
      dataset images { images = "images" } train raw { base = pony  data = images }
      lora hero { path = "hero.safetensors"  base = pony } lora other { path = "other.safetensors"  base = illu }`;
    return [...written, roots, ...missing].join('\n');
  });

test('in the graph of every program names are unique, and each node comes after those that it reads', () => {
  fc.assert(
    fc.property(programs, (text) => {
      const { nodes } = graphOf(text);
      const outputs = new Set<string>();
      for (const { id, inputs, placement } of nodes) {
        expect(outputs.has(id), id).toBe(false);
        for (const input of Object.values(inputs)) expect(outputs.has(input.node), `${id} ← ${input.node}`).toBe(true);
        outputs.add(id);
        if (placement) expect(['lora', 'picture']).toContain(placement.output);
      }
      // What reads the numbers of a decomposition reads those of its own.
      for (const { inputs } of nodes) {
        const factors = inputs.factors?.node;
        for (const role of ['frobenius', 'spectral', 'projections']) {
          const numbers = inputs[role] && nodes.find(({ id }) => id === inputs[role]?.node);
          if (numbers) expect(numbers.inputs.modules?.node).toBe(factors);
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('the order of blocks in the program changes no fingerprint', () => {
  const facts = (text: string) =>
    new Map(
      graphOf(text)
        .nodes.filter(({ id }) => !id.includes(':frobenius'))
        .map(({ id, stage, attributes, files }) => [id, { stage: stage.name, attributes, files }]),
    );
  fc.assert(
    fc.property(programs, (text) => {
      expect(facts(text.split('\n').toReversed().join('\n'))).toEqual(facts(text));
    }),
    { numRuns: 60 },
  );
});
