// The graph of `lorac resize`: for each LoRA one decomposition, the numbers of base weights that its recipes name,
// and a resized file for each recipe.
//
//   hero.safetensors ─▶ hero:decompose ─▶ hero:frobenius … ─▶ hero_frockpt1_th-3.55
//                              │            (from the base)      hero_frockpt1_th-3
//                              └────────────────────────────────▶
//
// A file in another form comes in by way of hero:lora, and a sum of files by way of hero0.5+style0.5:merge. A recipe
// that extracts has a decomposition of its own, hero:decompose[extract=64], and its own numbers of base weights.

import { dirname, parse } from 'node:path';
import type { SourceFile } from '../parser/source.ts';
import type { AbsolutePath, Graph, GraphNode, NodeId, NodeInput } from '../runtime/graph/graph.ts';
import type { BaseFiles } from '../runtime/graph/model-folder.ts';
import { pathIn } from '../runtime/graph/paths.ts';
import { stages } from '../runtime/stages/index.ts';
import { nameBeforeThreshold, resizedName } from '../runtime/surgery/resize/name.ts';
import { readRecipe, recipeAttributes, type WrittenRecipe } from '../runtime/surgery/resize/recipe.ts';
import { type LoraPart, stemOf, sumName } from './lora-arguments.ts';
import { UsageError } from './usage-error.ts';

export interface ResizeJob {
  readonly base: BaseFiles;
  /** Each is a file, or several to be added up. */
  readonly loras: readonly (readonly JobPart[])[];
  readonly recipes: readonly WrittenRecipe[];
  /** `undefined`: each result lies beside its LoRA. */
  readonly folder: AbsolutePath | undefined;
  readonly overwrite: boolean;
}

export interface JobPart extends LoraPart {
  /** Whether stages can read the file as it is. */
  readonly isCanonical: boolean;
  /** Whether it cannot be extracted without the base's weights. */
  readonly needsBase: boolean;
}

/** What failures and histories call this program. */
const source: SourceFile = { path: 'lorac resize', text: '' };
const origin = { source, start: 0, end: 0 };

const bare = { origin, attributes: {}, settings: {}, files: {}, inputs: {} };

/** Throws `UsageError` where two results would bear one name. */
export function resizeGraph(job: ResizeJob): Graph {
  const nameOf = namesOf(job.loras.flat().map(({ path }) => path));
  const nodes = new Map<NodeId, GraphNode>();
  const results: GraphNode[] = [];
  for (const parts of job.loras) {
    const made = new LoraNodes(job, parts, nameOf);
    for (const node of made.helpers) nodes.set(node.id, node);
    results.push(...made.results);
  }
  refuseTwins(results);
  return { program: source.path, nodes: [...nodes.values(), ...results] };
}

/** What nodes call each file: its name, or its whole path where two have the same. */
function namesOf(paths: readonly AbsolutePath[]): (path: AbsolutePath) => string {
  const different = [...new Set(paths)];
  return (path) => {
    const stem = stemOf(path);
    const isShared = different.some((other) => other !== path && stemOf(other) === stem);
    return isShared ? pathIn(dirname(path) as AbsolutePath, stem) : stem;
  };
}

function refuseTwins(results: readonly GraphNode[]): void {
  const ids = results.map(({ id }) => id);
  const twice = ids.find((id, index) => ids.indexOf(id) !== index);
  if (twice !== undefined) throw new UsageError(`Two recipes would give "${twice}".`, 'leave one of them out');
  const targets = results.map(({ placement }) => placement?.target ?? '');
  const shared = targets.find((target, index) => targets.indexOf(target) !== index);
  if (shared !== undefined) {
    const { dir, base } = parse(shared);
    throw new UsageError(
      `Two LoRAs would both give "${base}" in "${dir}".`,
      'resize them one by one, each with another -o',
    );
  }
}

/** Where a node reads a LoRA from: a file of the user's, or what another node gives. */
type LoraSource = { readonly file: AbsolutePath } | { readonly node: NodeId };

function reading(role: string, from: LoraSource): Pick<GraphNode, 'files' | 'inputs'> {
  return 'file' in from
    ? { files: { [role]: from.file }, inputs: {} }
    : { files: {}, inputs: { [role]: { node: from.node, output: 'lora' } } };
}

/** The nodes of one LoRA. */
class LoraNodes {
  /** Every node after those that it reads. */
  readonly helpers: GraphNode[] = [];
  readonly results: readonly GraphNode[];
  readonly #job: ResizeJob;
  readonly #parts: readonly JobPart[];
  /** What its nodes are called, and what its files are. */
  readonly #name: string;
  readonly #stem: string;
  readonly #lora: LoraSource;

  constructor(job: ResizeJob, parts: readonly JobPart[], nameOf: (path: AbsolutePath) => string) {
    this.#job = job;
    this.#parts = parts;
    const [only] = parts;
    const isSum = parts.length !== 1 || only?.weight !== 1;
    this.#name = isSum ? sumName(parts, nameOf) : nameOf(only.path);
    this.#stem = isSum ? sumName(parts, stemOf) : stemOf(only.path);
    const sources = parts.map((part) => this.#canonical(part, nameOf));
    this.#lora = isSum ? this.#sum(sources) : (sources[0] as LoraSource);
    this.results = job.recipes.map((recipe) => this.#result(recipe));
  }

  #node(node: GraphNode): NodeId {
    if (!this.helpers.some(({ id }) => id === node.id)) this.helpers.push(node);
    return node.id;
  }

  #canonical({ path, isCanonical }: JobPart, nameOf: (path: AbsolutePath) => string): LoraSource {
    if (isCanonical) return { file: path };
    return {
      node: this.#node({ ...bare, id: `${nameOf(path)}:lora` as NodeId, stage: stages.lora, files: { lora: path } }),
    };
  }

  /** In singles: what is resized is written in the precision that is asked for, and until then nothing is rounded. */
  #sum(sources: readonly LoraSource[]): LoraSource {
    const read = sources.map((from, index) => reading(`lora.${index}`, from));
    return {
      node: this.#node({
        ...bare,
        id: `${this.#name}:merge` as NodeId,
        stage: stages.merge,
        attributes: { weights: this.#parts.map(({ weight }) => weight), precision: 'fp32' },
        files: Object.assign({}, ...read.map(({ files }) => files)),
        inputs: Object.assign({}, ...read.map(({ inputs }) => inputs)),
      }),
    };
  }

  #decompose(extract: number | undefined): NodeId {
    const { files, inputs } = reading('lora', this.#lora);
    const needsBase = extract !== undefined && this.#parts.some((part) => part.needsBase);
    return this.#node({
      ...bare,
      id: this.#helperId('decompose', extract),
      stage: stages.decompose,
      attributes: extract === undefined ? {} : { extract },
      files: { ...files, ...(needsBase && this.#job.base) },
      inputs,
    });
  }

  #helperId(stage: string, extract: number | undefined): NodeId {
    return `${this.#name}:${stage}${extract === undefined ? '' : `[extract=${extract}]`}` as NodeId;
  }

  /** Numbers of base weights, by the role that a resize reads them in. Each only when the recipe names its key. */
  #references(recipe: WrittenRecipe, decompose: NodeId): { readonly [role: string]: NodeInput } {
    const factors = { node: decompose, output: 'factors' };
    const modules = { node: decompose, output: 'modules' };
    const { weights, extract } = readRecipe(recipe);
    const numbers = (
      [
        ['fro_ckpt', 'frobenius', { modules }],
        ['spn_ckpt', 'spectral', { modules }],
        ['subspace', 'projections', { modules, factors }],
      ] as const
    ).flatMap(([key, role, inputs]): [string, NodeInput][] => {
      if (!weights.has(key)) return [];
      const id = this.#helperId(role, extract);
      const node = this.#node({ ...bare, id, stage: stages[role], files: this.#job.base, inputs });
      return [[role, { node, output: 'numbers' }]];
    });
    return Object.fromEntries(numbers);
  }

  #result(recipe: WrittenRecipe): GraphNode {
    const { limit, extract } = readRecipe(recipe);
    const decompose = this.#decompose(extract);
    const { files, inputs } = reading('lora', this.#lora);
    const folder = this.#job.folder ?? (dirname(this.#parts[0]?.path ?? '') as AbsolutePath);
    const isSize = limit.kind === 'size';
    const named = (name: string) => (isSize ? nameBeforeThreshold(name, recipe) : resizedName(name, recipe, undefined));
    const nameFor = (threshold: unknown) => resizedName(this.#stem, recipe, threshold);
    return {
      ...bare,
      // Without the suffix, which every result has, there is room on the screen for what differs.
      id: named(this.#name).replace(/\.safetensors$/, '') as NodeId,
      stage: stages.resize,
      attributes: recipeAttributes(recipe),
      files,
      inputs: {
        ...inputs,
        factors: { node: decompose, output: 'factors' },
        ...this.#references(recipe, decompose),
      },
      placement: {
        output: 'lora',
        target: pathIn(folder, named(this.#stem)),
        overwrite: this.#job.overwrite,
        ...(isSize && { nameFrom: ({ threshold }: { readonly [fact: string]: unknown }) => nameFor(threshold) }),
      },
    };
  }
}
