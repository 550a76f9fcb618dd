// The graph of `lorac resize`: for each LoRA one decomposition, the numbers of base weights that its recipes name,
// and a resized file for each recipe.
//
//   hero.safetensors ─▶ hero:decompose ─▶ hero:frobenius … ─▶ hero_frockpt1_th-3.55.safetensors
//                              │            (from the base)      hero_frockpt1_th-3.safetensors
//                              └────────────────────────────────▶

import { dirname, parse } from 'node:path';
import type { SourceFile } from '../parser/source.ts';
import type { AbsolutePath, Graph, GraphNode, NodeId, NodeInput } from '../runtime/graph/graph.ts';
import { pathIn } from '../runtime/graph/paths.ts';
import { stages } from '../runtime/stages/index.ts';
import { nameBeforeThreshold, resizedName } from '../runtime/stages/resize-name.ts';
import { readRecipe, recipeAttributes, type WrittenRecipe } from '../runtime/stages/resize-recipe.ts';
import { UsageError } from './usage-error.ts';

export interface ResizeJob {
  readonly base: AbsolutePath;
  readonly loras: readonly AbsolutePath[];
  readonly recipes: readonly WrittenRecipe[];
  /** `undefined`: each result lies beside its LoRA. */
  readonly folder: AbsolutePath | undefined;
  readonly overwrite: boolean;
}

/** What failures and histories call this program. */
const source: SourceFile = { path: 'lorac resize', text: '' };
const origin = { source, start: 0, end: 0 };

const bare = { origin, attributes: {}, settings: {}, files: {}, inputs: {} };

export function resizeGraph(job: ResizeJob): Graph {
  const names = namesOf(job.loras);
  const nodes = job.loras.flatMap((lora, index) => nodesOf(job, lora, names[index] ?? lora));
  const ids = nodes.map(({ id }) => id);
  const twice = nodes.find(({ id }, index) => ids.indexOf(id) !== index);
  if (twice) throw new UsageError(`Two recipes would give "${twice.id}".`, 'leave one of them out');
  const targets = nodes.flatMap(({ placement, id }) =>
    placement ? [`${dirname(placement.target)}\n${parse(id).base}`] : [],
  );
  const shared = targets.find((target, index) => targets.indexOf(target) !== index);
  if (shared) {
    throw new UsageError(
      `Two LoRAs would both give "${shared.split('\n')[1]}" in "${shared.split('\n')[0]}".`,
      'resize them one by one, each with another -o',
    );
  }
  return { nodes };
}

/** What nodes call each LoRA: its name, or its whole path where two have the same. */
function namesOf(loras: readonly AbsolutePath[]): readonly string[] {
  const stems = loras.map((lora) => parse(lora).name);
  return stems.map((stem, index) => {
    const isShared = stems.some((other, at) => at !== index && other === stem);
    const lora = loras[index] as AbsolutePath;
    return isShared ? pathIn(dirname(lora) as AbsolutePath, stem) : stem;
  });
}

function nodesOf(job: ResizeJob, lora: AbsolutePath, name: string): readonly GraphNode[] {
  const decompose: GraphNode = { ...bare, id: `${name}:decompose` as NodeId, stage: stages.decompose, files: { lora } };
  const factors = { node: decompose.id, output: 'factors' };
  const modules = { node: decompose.id, output: 'modules' };
  const references = (
    [
      ['fro_ckpt', 'frobenius', { modules }],
      ['spn_ckpt', 'spectral', { modules }],
      ['subspace', 'projections', { modules, factors }],
    ] as const
  ).flatMap(([key, role, inputs]) => {
    const isNamed = job.recipes.some((recipe) => readRecipe(recipe).weights.has(key));
    const id = `${name}:${role}` as NodeId;
    const node: GraphNode = { ...bare, id, stage: stages[role], files: { checkpoint: job.base }, inputs };
    return isNamed ? [{ key, role, node }] : [];
  });
  const resized = job.recipes.map((recipe): GraphNode => {
    const { weights, limit } = readRecipe(recipe);
    const used = references.filter(({ key }) => weights.has(key));
    const numbers = used.map(({ role, node }): [string, NodeInput] => [role, { node: node.id, output: 'numbers' }]);
    const stem = parse(lora).name;
    const folder = job.folder ?? (dirname(lora) as AbsolutePath);
    const nameFor = (threshold: unknown) => resizedName(stem, recipe, threshold);
    const isSize = limit.kind === 'size';
    const short = isSize ? nameBeforeThreshold(name, recipe) : resizedName(name, recipe, undefined);
    return {
      ...bare,
      id: short as NodeId,
      stage: stages.resize,
      attributes: recipeAttributes(recipe),
      files: { lora },
      inputs: { factors, ...Object.fromEntries(numbers) },
      placement: {
        output: 'lora',
        target: pathIn(folder, parse(short).base),
        overwrite: job.overwrite,
        ...(isSize && { nameFrom: ({ threshold }: { readonly [fact: string]: unknown }) => nameFor(threshold) }),
      },
    };
  });
  return [decompose, ...references.map(({ node }) => node), ...resized];
}
