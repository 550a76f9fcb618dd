// The nodes of checkpoints, datasets and trainings.

import type { BlockOf } from '../../parser/model.ts';
import { captionsAtVisits } from '../../parser/schema/captions.ts';
import { schema } from '../../parser/schema/schema.ts';
import type { GraphNode, NodeId, NodeInput } from './graph.ts';
import { canonical, type GraphDraft, withoutGaps } from './graph-draft.ts';
import type { Json } from './json.ts';
import type { BaseFiles } from './model-folder.ts';
import { type PixelSettings, paritySettings, pixelSettings } from './parity.ts';
import { startOf } from './paths.ts';

export function addCheckpoint(draft: GraphDraft, block: BlockOf<'checkpoint'>): NodeId {
  const files = draft.weightsOf(block);
  return draft.node(block.name, { stage: draft.stages.checkpoint, origin: block.span, files });
}

export function addDataset(draft: GraphDraft, block: BlockOf<'dataset'>): NodeId {
  const { images, folders, caption_extension, caption_missing, wildcards, resolution, bucket, repeats } =
    block.attributes;
  const patterns = [images].flat().map((written) => startOf(written, draft.places));
  return draft.node(manifestOf(block), {
    stage: draft.stages.manifest,
    origin: block.span,
    attributes: canonical(draft.stages.manifest, {
      resolution: [resolution.width, resolution.height],
      bucket: { ...bucket },
      repeats,
    }),
    settings: {
      dataset: block.name,
      images: patterns.map(({ from, rest }) => ({ from, pattern: rest })),
      folders,
      caption_extension,
      caption_missing,
      wildcards,
      ...maskSettings(draft, block),
    },
  });
}

function maskSettings(draft: GraphDraft, dataset: BlockOf<'dataset'>): { readonly [name: string]: Json } {
  const { alpha_mask, masks, mask_missing: missing } = dataset.attributes;
  if (alpha_mask) return { alpha_mask };
  if (masks === undefined) return {};
  // A training with parity takes pictures as they are stored, whatever their dataset leaves unsaid.
  const asStored = draft.readingsOf(dataset).some(({ exif }) => exif === 'ignore');
  return { masks: { folder: draft.path(masks), missing, asStored } };
}

const manifestOf = (dataset: BlockOf<'dataset'>) => `${dataset.name}:manifest` as NodeId;

export function addTrain(draft: GraphDraft, block: BlockOf<'train'>): NodeId {
  const { stages } = draft;
  const base = draft.block(block.attributes.base.block, 'checkpoint');
  const data = draft.block(block.attributes.data.block, 'dataset');
  const files = draft.weightsOf(base);
  const kept = block.attributes.regularization && draft.block(block.attributes.regularization.block, 'dataset');

  const { validation } = block.attributes;
  const measured = validation?.data && draft.block(validation.data.block, 'dataset');
  const held =
    measured &&
    addLatents(draft, block, { data: measured, name: 'held-out-latents', prefix: 'held_out.', flip: false });

  const { sample, save_every, save_last_n_steps, state_every, gradient_checkpointing, on_non_finite, vram, launch } =
    block.attributes;
  const { blocks_to_swap, compile } = block.attributes;
  // The VAE's precision shows in the latents' bytes.
  const { vae_precision: _, prior_loss_weight, ...learning } = fingerprinted(block, files);
  const { resolution } = data.attributes;
  const sampling = sample && { ...sample, prompts: draft.path(sample.prompts) };
  const main = draft.node(block.name, {
    stage: stages.train,
    origin: block.span,
    attributes: canonical(stages.train, {
      ...learning,
      ...draft.processOf(base),
      captions: captionsOf(data),
      regularization: kept ? { captions: captionsOf(kept), prior_loss_weight: prior_loss_weight ?? 1 } : null,
      resolution: [resolution.width, resolution.height],
    }),
    settings: {
      save_every,
      ...(save_last_n_steps !== undefined && { save_last_n_steps }),
      save_steps: draft.namedSteps(block.name),
      state_every: { ...state_every },
      gradient_checkpointing,
      on_non_finite,
      blocks_to_swap,
      compile,
      vram: vram ?? null,
      launch: launch.kind === 'single' ? { ...launch } : withoutGaps({ ...launch, wait: { ...launch.wait } }),
      sample: sampling ?? null,
    },
    files,
    inputs: {
      ...addLatents(draft, block, { data, name: 'latents', prefix: '', flip: data.attributes.flip_aug }),
      ...(kept &&
        addLatents(draft, block, {
          data: kept,
          name: 'regularization',
          prefix: 'regularization.',
          flip: kept.attributes.flip_aug,
        })),
      ...held,
      ...(block.attributes.init && { init: draft.lora(block.attributes.init) }),
    },
  });

  if (sampling) addSamples(draft, block, sampling, files);
  return main;
}

/** The node that encodes a dataset for a training, and what the training takes of both, by role. */
function addLatents(
  draft: GraphDraft,
  block: BlockOf<'train'>,
  {
    data,
    name,
    prefix,
    flip,
  }: {
    readonly data: BlockOf<'dataset'>;
    readonly name: string;
    readonly prefix: string;
    readonly flip: boolean;
  },
): { readonly [role: string]: NodeInput } {
  const base = draft.block(block.attributes.base.block, 'checkpoint');
  const pixels = pixelSettings(block, data);
  const images = { node: manifestOf(data), output: pixels.exif === 'ignore' ? 'images.as-stored' : 'images' };
  const latents = draft.node(`${block.name}:${name}`, {
    stage: draft.stages.latents,
    origin: block.span,
    attributes: { vae_precision: block.attributes.vae_precision, flip, ...pixelAttributes(pixels) },
    // Not among the files: latents depend on the VAE in it alone, and so outlive a change of anything else.
    settings: { base: draft.weightsOf(base) },
    inputs: { images, vae: { node: base.name as NodeId, output: 'vae' } },
  });
  return {
    [`${prefix}latents`]: { node: latents, output: 'latents' },
    [`${prefix}images`]: images,
    [`${prefix}captions`]: { node: manifestOf(data), output: 'captions' },
  };
}

/** What is as usual has no place in a fingerprint, but for the orientation. */
function pixelAttributes({ exif, transparency, resize_filter }: PixelSettings): { readonly [name: string]: Json } {
  return {
    exif: exif === 'ignore' ? 'ignored' : 'upright',
    ...(String(transparency) === '255,255,255' ? {} : { transparency }),
    ...(resize_filter === 'lanczos' ? {} : { resize_filter }),
  };
}

/** What becomes of the captions of a dataset at each visit: the training's business, and so no part of the manifest. */
function captionsOf({ attributes }: BlockOf<'dataset'>): { readonly [name: string]: Json } {
  const names = Object.keys(captionsAtVisits) as readonly (keyof typeof captionsAtVisits)[];
  return Object.fromEntries(names.map((name) => [name, attributes[name] ?? null]));
}

/** Pictures of the steps that training keeps for them. A stored run may lack some. */
function addSamples(
  draft: GraphDraft,
  block: BlockOf<'train'>,
  sampling: {
    readonly at_first: boolean;
    readonly every: number;
    readonly prompts: GraphNode['files'][string];
    readonly sampler: string;
  },
  files: GraphNode['files'],
): void {
  const { steps, mixed_precision, fp8_base } = block.attributes;
  const train = block.name as NodeId;
  const inputs: { [role: string]: NodeInput } = { lora: { node: train, output: 'lora' } };
  for (let step = sampling.every; step < steps; step += sampling.every) {
    inputs[`step.${step}`] = { node: train, output: `step.${step}`, optional: true };
  }
  const { init } = block.attributes;
  if (sampling.at_first && init) inputs.init = draft.lora(init);
  draft.node(`${block.name}:samples`, {
    stage: draft.stages.samples,
    origin: block.span,
    attributes: {
      sampler: sampling.sampler,
      at_first: sampling.at_first,
      every: sampling.every,
      steps,
      mixed_precision,
      // Training makes its pictures with what it trains on, and they are to be found again.
      ...(fp8_base !== 'off' && { fp8_base }),
      ...draft.processOf(draft.block(block.attributes.base.block, 'checkpoint')),
    },
    settings: { train: block.name },
    files: { ...files, prompts: sampling.prompts },
    inputs,
  });
}

/** The attributes of a training that the schema table says can change its result, but for the blocks it refers to. */
function fingerprinted(block: BlockOf<'train'>, base: BaseFiles): { readonly [name: string]: Json } {
  const { base: _, data: __, regularization: ___, init: ____, parity: _____, validation, ...rest } = block.attributes;
  const measured = validation && { validation: measuring(validation) };
  const attributes = { ...rest, ...paritySettings(block, base), ...measured };
  const entries = Object.entries(attributes).filter(
    ([name]) => schema.train[name as keyof typeof attributes].fingerprint,
  );
  return withoutGaps(Object.fromEntries(entries) as { readonly [name: string]: Json | undefined });
}

/** Other images to measure with are an input. */
function measuring({ data, share, ...rest }: NonNullable<BlockOf<'train'>['attributes']['validation']>): {
  readonly [name: string]: Json;
} {
  return data === undefined ? { ...rest, share: share ?? 0.1 } : rest;
}
