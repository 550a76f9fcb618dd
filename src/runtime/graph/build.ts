// From a checked program to the graph of everything that it asks for.
//
//   buildGraph(program, { folder, home, stages }): Graph
//
//   checkpoint pony                        dataset hero
//      pony ────────────┐                     hero:manifest
//       │               └──────┐        images │      │ captions
//       │                  raw:latents ◀───────┤      │
//       │                      │               ▼      ▼
//   train raw { sample }       └────────────▶  raw ──────▶ raw:samples
//                                               │ lora
//   resize small { from = raw }            raw:decompose ──▶ pony:frobenius, raw:spectral, raw:projections
//                                               │            (each only when a recipe names its key)
//                                             small
//   chop tiny, save "hero.safetensors"        tiny ──▶ hero.safetensors
//
// A block's main node has the block's name; helpers are "block:stage", made once and shared.

import { parse } from 'node:path';
import type { BlockKind, BlockOf, CheckedBlock, CheckedProgram } from '../../parser/model.ts';
import { schema } from '../../parser/schema.ts';
import { unreachable } from '../../parser/unreachable.ts';
import type { Stage } from '../stage.ts';
import type { Graph, GraphNode, NodeId, NodeInput } from './graph.ts';
import type { Json } from './json.ts';
import { type Places, resolvePath, startOf } from './paths.ts';

/** The kinds of work that blocks become. */
export interface Stages {
  readonly checkpoint: Stage;
  readonly manifest: Stage;
  readonly latents: Stage;
  readonly train: Stage;
  readonly samples: Stage;
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
  readonly sweep: Stage;
  readonly analyze: Stage;
  readonly savePicture: Stage;
}

export function buildGraph(program: CheckedProgram, options: Places & { readonly stages: Stages }): Graph {
  const builder = new Builder(program, options);
  for (const block of program.blocks) builder.block(block);
  return { nodes: builder.nodes };
}

/** The blocks whose main node gives a LoRA. */
type LoraBlock = BlockOf<'train'> | BlockOf<'resize'> | BlockOf<'chop'>;

/** What a node is, but for what is the same for most. */
type Draft = Pick<GraphNode, 'stage' | 'origin'> & Partial<GraphNode>;

class Builder {
  /** Grows as blocks are walked, so that a node always comes after what it is made from. */
  readonly nodes: GraphNode[] = [];
  readonly #blocks: ReadonlyMap<string, CheckedBlock>;
  readonly #places: Places;
  readonly #stages: Stages;
  readonly #known = new Map<string, GraphNode>();

  constructor(program: CheckedProgram, { stages, ...places }: Places & { readonly stages: Stages }) {
    // Blocks that save have a path in place of a name, and nothing refers to them.
    this.#blocks = new Map(program.blocks.filter(({ kind }) => kind !== 'save').map((block) => [block.name, block]));
    this.#places = places;
    this.#stages = stages;
  }

  block(block: CheckedBlock): NodeId {
    switch (block.kind) {
      case 'checkpoint':
        return this.#checkpoint(block);
      case 'dataset':
        return this.#manifest(block);
      case 'train':
        return this.#train(block);
      case 'resize':
        return this.#resize(block);
      case 'chop':
        return this.#chop(block);
      case 'save':
        return this.#save(block);
      default:
        return unreachable(block);
    }
  }

  #checkpoint(block: BlockOf<'checkpoint'>): NodeId {
    return this.#node(block.name, {
      stage: this.#stages.checkpoint,
      origin: block.span,
      files: this.#weightsOf(block),
    });
  }

  #manifest(block: BlockOf<'dataset'>): NodeId {
    const { images, caption_extension, resolution, bucket, repeats } = block.attributes;
    const patterns = [images].flat().map((written) => startOf(written, this.#places));
    return this.#node(`${block.name}:manifest`, {
      stage: this.#stages.manifest,
      origin: block.span,
      attributes: { resolution: [resolution.width, resolution.height], bucket: { ...bucket }, repeats },
      settings: {
        dataset: block.name,
        images: patterns.map(({ from, rest }) => ({ from, pattern: rest })),
        caption_extension,
      },
    });
  }

  #train(block: BlockOf<'train'>): NodeId {
    const stages = this.#stages;
    const base = this.#of(block.attributes.base.block, 'checkpoint');
    const data = this.#of(block.attributes.data.block, 'dataset');
    const [pony, manifest] = [this.#checkpoint(base), this.#manifest(data)];
    const files = this.#weightsOf(base);
    const images = { node: manifest, output: 'images' };

    const latents = this.#node(`${block.name}:latents`, {
      stage: stages.latents,
      origin: block.span,
      attributes: { vae_precision: block.attributes.vae_precision, flip: data.attributes.flip_aug, exif: 'upright' },
      // Not among the files: latents depend on the VAE in it alone, and so outlive a change of anything else.
      settings: { checkpoint: files.checkpoint },
      inputs: { images, vae: { node: pony, output: 'vae' } },
    });

    const { sample, save_every, state_every, gradient_checkpointing } = block.attributes;
    // The VAE's precision shows in the latents' bytes.
    const { vae_precision: _, ...learning } = fingerprinted(block);
    const { shuffle_caption, resolution } = data.attributes;
    const sampling = sample && { ...sample, prompts: resolvePath(sample.prompts, this.#places) };
    const main = this.#node(block.name, {
      stage: stages.train,
      origin: block.span,
      attributes: { ...learning, shuffle_caption, resolution: [resolution.width, resolution.height] },
      settings: {
        save_every,
        state_every: { ...state_every },
        gradient_checkpointing,
        sample: sampling ?? null,
      },
      files,
      inputs: {
        latents: { node: latents, output: 'latents' },
        images,
        captions: { node: manifest, output: 'captions' },
      },
    });

    if (sampling) this.#samples(block, main, sampling, files);
    return main;
  }

  /** Pictures of the steps that training keeps for them. A stored run may lack some. */
  #samples(
    block: BlockOf<'train'>,
    train: NodeId,
    sampling: { readonly every: number; readonly prompts: GraphNode['files'][string]; readonly sampler: string },
    files: GraphNode['files'],
  ): void {
    const { steps, mixed_precision } = block.attributes;
    const inputs: { [role: string]: NodeInput } = { lora: { node: train, output: 'lora' } };
    for (let step = sampling.every; step < steps; step += sampling.every) {
      inputs[`step.${step}`] = { node: train, output: `step.${step}`, optional: true };
    }
    this.#node(`${block.name}:samples`, {
      stage: this.#stages.samples,
      origin: block.span,
      attributes: { sampler: sampling.sampler, every: sampling.every, steps, mixed_precision },
      settings: { train: block.name },
      files: { ...files, prompts: sampling.prompts },
      inputs,
    });
  }

  #resize(block: BlockOf<'resize'>): NodeId {
    const { from, ...written } = block.attributes;
    const attributes = this.#canonical(this.#stages.resize, written);
    const source = this.#lora(from.block);
    const lora = { node: this.block(source), output: 'lora' };
    const decompose = this.#node(`${source.name}:decompose`, {
      stage: this.#stages.decompose,
      origin: block.span,
      inputs: { lora },
    });
    const factors = { node: decompose, output: 'factors' };
    const modules = { node: decompose, output: 'modules' };
    const inputs: { [role: string]: NodeInput } = { lora, factors };
    const base = this.#baseOf(source);
    const numbers = (role: 'frobenius' | 'spectral' | 'projections', id: string, of: { [role: string]: NodeInput }) => {
      const draft = { stage: this.#stages[role], origin: block.span, files: this.#weightsOf(base), inputs: of };
      inputs[role] = { node: this.#node(id, draft), output: 'numbers' };
    };
    if ('fro_ckpt' in attributes) numbers('frobenius', this.#frobeniusId(base, decompose), { modules });
    if ('spn_ckpt' in attributes) numbers('spectral', `${source.name}:spectral`, { modules });
    if ('subspace' in attributes) numbers('projections', `${source.name}:projections`, { modules, factors });
    return this.#node(block.name, { stage: this.#stages.resize, origin: block.span, attributes, inputs });
  }

  /** Norms of a checkpoint's weights, for the modules of one LoRA. A second LoRA on the same checkpoint has its own. */
  #frobeniusId(base: BlockOf<'checkpoint'>, decompose: NodeId): string {
    const id = `${base.name}:frobenius`;
    const known = this.#known.get(id);
    return known === undefined || known.inputs.modules?.node === decompose ? id : `${id}[${decompose.split(':')[0]}]`;
  }

  #chop(block: BlockOf<'chop'>): NodeId {
    const { from, ...written } = block.attributes;
    return this.#node(block.name, {
      stage: this.#stages.chop,
      origin: block.span,
      attributes: this.#canonical(this.#stages.chop, written),
      // How it was said, for what is said about it.
      settings: withoutGaps(written),
      inputs: { lora: { node: this.block(this.#lora(from.block)), output: 'lora' } },
    });
  }

  #save(block: BlockOf<'save'>): NodeId {
    const lora = { node: this.block(this.#lora(block.attributes.from.block)), output: 'lora' };
    const target = resolvePath(block.name, this.#places);
    return this.#node(this.#blocks.has(block.name) ? `save:${block.name}` : block.name, {
      stage: this.#stages.save,
      origin: block.span,
      // It stands in the file's header.
      attributes: { title: parse(target).name },
      inputs: { lora },
      placement: { output: 'lora', target, overwrite: block.attributes.overwrite },
    });
  }

  #node(name: string, draft: Draft): NodeId {
    const id = name as NodeId;
    if (!this.#known.has(id)) {
      const node = { id, attributes: {}, settings: {}, files: {}, inputs: {}, ...draft };
      this.#known.set(id, node);
      this.nodes.push(node);
    }
    return id;
  }

  /** Attributes in the form that is equal whenever their meaning is. */
  #canonical(stage: Stage, written: { readonly [name: string]: Json | undefined }): { readonly [name: string]: Json } {
    const given = withoutGaps(written);
    return stage.canonical?.(given) ?? given;
  }

  #of<K extends BlockKind>(name: string, kind: K): BlockOf<K> {
    const block = this.#blocks.get(name);
    if (block?.kind !== kind) throw new Error(`Internal error: there is no ${kind} "${name}".`);
    return block as unknown as BlockOf<K>;
  }

  #lora(name: string): LoraBlock {
    const block = this.#blocks.get(name);
    if (block?.kind === 'train' || block?.kind === 'resize' || block?.kind === 'chop') return block;
    throw new Error(`Internal error: there is no LoRA "${name}".`);
  }

  /** The checkpoint that a LoRA was trained on. */
  #baseOf(block: LoraBlock): BlockOf<'checkpoint'> {
    if (block.kind === 'train') return this.#of(block.attributes.base.block, 'checkpoint');
    return this.#baseOf(this.#lora(block.attributes.from.block));
  }

  #weightsOf(block: BlockOf<'checkpoint'>) {
    return { checkpoint: resolvePath(block.attributes.path, this.#places) };
  }
}

/** The attributes of a training that the schema table says can change its result, but for the blocks it refers to. */
function fingerprinted(block: BlockOf<'train'>): { readonly [name: string]: Json } {
  const { base: _, data: __, ...attributes } = block.attributes;
  const entries = Object.entries(attributes).filter(
    ([name]) => schema.train[name as keyof typeof attributes].fingerprint,
  );
  return withoutGaps(Object.fromEntries(entries) as { readonly [name: string]: Json | undefined });
}

/** An attribute that is not there means nothing, and so has no place in a fingerprint. */
function withoutGaps(attributes: { readonly [name: string]: Json | undefined }): { readonly [name: string]: Json } {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as { readonly [name: string]: Json };
}
