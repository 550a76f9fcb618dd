// A graph while it is made: nodes in the order they are asked for, each made once and then shared, and the blocks of
// the program by name.

import type { Base, Bases } from '../../parser/checking/bases.ts';
import { basesOf } from '../../parser/checking/bases.ts';
import { referencesOf } from '../../parser/checking/order.ts';
import {
  type BlockKind,
  type BlockOf,
  type CheckedBlock,
  nameOfReference,
  type ProgramPath,
  type Reference,
  type RunOutput,
  type StepChoice,
  savedSteps,
} from '../../parser/model.ts';
import type { Stage } from '../stage.ts';
import type { AbsolutePath, GraphNode, NodeId, NodeInput } from './graph.ts';
import type { Json } from './json.ts';
import { adaptedFiles, type BaseFiles, BrokenFolder, modelFolderAt, wholeModel } from './model-folder.ts';
import { readingsOf } from './parity.ts';
import { type Places, resolvePath } from './paths.ts';

/** The kinds of work that blocks become. */
export interface Stages {
  readonly checkpoint: Stage;
  readonly manifest: Stage;
  readonly latents: Stage;
  readonly train: Stage;
  readonly samples: Stage;
  readonly ema: Stage;
  readonly decompose: Stage;
  readonly frobenius: Stage;
  readonly spectral: Stage;
  readonly projections: Stage;
  readonly resize: Stage;
  readonly chop: Stage;
  readonly save: Stage;
  readonly lora: Stage;
  readonly merge: Stage;
  readonly preview: Stage;
  readonly ablation: Stage;
  readonly analyze: Stage;
  readonly savePicture: Stage;
  readonly run: Stage;
  readonly saveFile: Stage;
}

/** What a node is, but for what is the same for most. */
type Draft = Pick<GraphNode, 'stage' | 'origin'> & Partial<GraphNode>;

type Attributes = { readonly [name: string]: Json };

export class GraphDraft {
  /** Grows as blocks are walked, so that a node always comes after what it is made from. */
  readonly nodes: GraphNode[] = [];
  readonly stages: Stages;
  readonly #places: Places;
  readonly #ordered: readonly CheckedBlock[];
  readonly #bases: Bases;
  readonly #blocks: ReadonlyMap<string, CheckedBlock>;
  readonly #known = new Map<string, GraphNode>();
  readonly #weights = new Map<AbsolutePath, BaseFiles>();

  /** `ordered`: every block after those that it is made from. */
  constructor(ordered: readonly CheckedBlock[], { stages, ...places }: Places & { readonly stages: Stages }) {
    this.stages = stages;
    this.#ordered = ordered;
    this.#places = places;
    this.#bases = basesOf(ordered);
    // Blocks that save have a path in place of a name, and nothing refers to them.
    this.#blocks = new Map(ordered.filter(({ kind }) => kind !== 'save').map((block) => [block.name, block]));
  }

  /** Adds a node, unless there is one of that name: then that is the one. */
  node(name: string, draft: Draft): NodeId {
    const id = name as NodeId;
    if (!this.#known.has(id)) {
      const node = { id, attributes: {}, settings: {}, files: {}, inputs: {}, ...draft };
      this.#known.set(id, node);
      this.nodes.push(node);
    }
    return id;
  }

  known(name: string): GraphNode | undefined {
    return this.#known.get(name);
  }

  /** How a dataset's pictures are read by the trainings that have it. */
  readingsOf(dataset: BlockOf<'dataset'>): ReturnType<typeof readingsOf> {
    return readingsOf(dataset, this.#ordered);
  }

  has(block: string): boolean {
    return this.#blocks.has(block);
  }

  block<K extends BlockKind>(name: string, ...kinds: readonly K[]): { [One in K]: BlockOf<One> }[K] {
    const block = this.#blocks.get(name);
    if (block === undefined || !kinds.some((kind) => kind === block.kind)) {
      throw new Error(`Internal error: there is no ${kinds.join(' or ')} "${name}".`);
    }
    return block as unknown as { [One in K]: BlockOf<One> }[K];
  }

  /** The LoRA that a block makes. Its nodes are there, since blocks are walked after what they are made from. */
  lora(reference: Reference): NodeInput {
    const { block, step, output } = reference;
    if (output !== undefined) return { node: this.#adopted(reference, output), output: 'lora' };
    if (step?.kind === 'ema') return { node: this.#average(reference, step.decay), output: 'lora' };
    return { node: block as NodeId, output: outputOf(step) };
  }

  /** A LoRA that a run wrote is looked at as one that the user brought. */
  #adopted(reference: Reference, { name }: RunOutput): NodeId {
    const inputs = { lora: { node: reference.block as NodeId, output: `out.${name}` } };
    return this.node(`${nameOfReference(reference)}:lora`, { stage: this.stages.lora, origin: reference.span, inputs });
  }

  /** Over the steps that `save_every` keeps, and the last. Where a stored run lacks some, training goes up to them. */
  #average(reference: Reference, decay: number): NodeId {
    const train = reference.block as NodeId;
    const outputs = savedSteps(this.block(train, 'train').attributes).map((step) => ({
      node: train,
      output: `step.${step}`,
    }));
    return this.node(nameOfReference(reference), {
      stage: this.stages.ema,
      origin: reference.span,
      attributes: { decay },
      inputs: Object.fromEntries(outputs.map((input, index) => [`lora.${index}`, input])),
    });
  }

  /** The steps of a training that the program names, in order. */
  namedSteps(training: string): readonly number[] {
    const named = this.#ordered
      .flatMap(referencesOf)
      .flatMap(({ block, step }) => (block === training && step?.kind === 'step' ? [step.step] : []));
    return [...new Set(named)].sort((a, b) => a - b);
  }

  /** LoRAs in roles of their own: `lora.0`, `lora.1` … */
  loras(references: readonly Reference[]): { readonly [role: string]: NodeInput } {
    return Object.fromEntries(references.map((lora, index) => [`lora.${index}`, this.lora(lora)]));
  }

  /** The checkpoint that a LoRA was trained on, where the program says so. */
  baseOf({ block }: Reference): BlockOf<'checkpoint'> | undefined {
    return this.#checkpointOf(this.#bases.get(block));
  }

  /** For LoRAs whose base the checker has found. */
  requiredBase(references: readonly Reference[]): BlockOf<'checkpoint'> {
    const [first] = references.flatMap((lora) => this.baseOf(lora) ?? []);
    if (first === undefined) throw new Error('Internal error: no base where one is needed.');
    return first;
  }

  #checkpointOf(base: Base | undefined): BlockOf<'checkpoint'> | undefined {
    return base?.kind === 'known' ? this.block(base.checkpoint, 'checkpoint') : undefined;
  }

  /** The files of a checkpoint. A folder that lacks some stands for itself, and is refused when it is read. */
  weightsOf(block: BlockOf<'checkpoint'>): BaseFiles {
    const path = this.path(block.attributes.path);
    const known = this.#weights.get(path) ?? filesOfBase(path);
    this.#weights.set(path, known);
    return known;
  }

  /** Those that LoRAs adapt. */
  adaptedOf(block: BlockOf<'checkpoint'>): BaseFiles {
    return adaptedFiles(this.weightsOf(block));
  }

  /** What the program says of a checkpoint's diffusion process; nothing where it leaves that to the file. */
  processOf({ attributes }: BlockOf<'checkpoint'>): Attributes {
    const { prediction, zero_terminal_snr } = attributes;
    if (prediction === 'auto' && zero_terminal_snr === 'auto') return {};
    return { process: { prediction, zero_terminal_snr } };
  }

  path(written: ProgramPath): AbsolutePath {
    return resolvePath(written, this.#places);
  }

  get places(): Places {
    return this.#places;
  }
}

function filesOfBase(path: AbsolutePath): BaseFiles {
  const folder = modelFolderAt(path);
  if (folder === undefined) return { checkpoint: path };
  try {
    return wholeModel(folder);
  } catch (error) {
    if (!(error instanceof BrokenFolder)) throw error;
    return { checkpoint: folder };
  }
}

/** Attributes in the form that is equal whenever their meaning is. */
export function canonical(stage: Stage, written: { readonly [name: string]: Json | undefined }): Attributes {
  const given = withoutGaps(written);
  return stage.canonical?.(given) ?? given;
}

/** An attribute that is not there means nothing, and so has no place in a fingerprint. */
export function withoutGaps(attributes: { readonly [name: string]: Json | undefined }): Attributes {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as Attributes;
}

/** What the output of a training is called that a reference means. */
function outputOf(choice: Exclude<StepChoice, { kind: 'ema' }> | undefined): string {
  if (choice === undefined) return 'lora';
  if (choice.kind === 'kept-ema') return 'ema';
  return choice.kind === 'step' ? `step.${choice.step}` : choice.kind;
}
