// The nodes of blocks that make LoRAs of LoRAs, of the helpers that they share, and of saves.

import { parse } from 'node:path';
import { byBlockName } from '../../parser/checking/bases.ts';
import { type BlockOf, nameOfReference, type Reference } from '../../parser/model.ts';
import { pictureKinds } from '../../parser/schema/schema.ts';
import type { Span } from '../../parser/source.ts';
import type { NodeId, NodeInput } from './graph.ts';
import { canonical, type GraphDraft, withoutGaps } from './graph-draft.ts';
import { outputOf } from './run-nodes.ts';

export function addLora(draft: GraphDraft, block: BlockOf<'lora'>): NodeId {
  const files = { lora: draft.path(block.attributes.path) };
  return draft.node(block.name, { stage: draft.stages.lora, origin: block.span, files });
}

export function addResize(draft: GraphDraft, block: BlockOf<'resize'>): NodeId {
  const { from, ...written } = block.attributes;
  const attributes = canonical(draft.stages.resize, written);
  const lora = draft.lora(from);
  const decompose = addDecompose(draft, { from, extract: written.extract, origin: block.span });
  const factors = { node: decompose, output: 'factors' };
  const modules = { node: decompose, output: 'modules' };
  const inputs: { [role: string]: NodeInput } = { lora, factors };
  const numbersOf = (role: 'spectral' | 'projections', of: { readonly [role: string]: NodeInput }): NodeInput => {
    const files = draft.adaptedOf(draft.requiredBase([from]));
    const id = `${decompose.replace(':decompose', `:${role}`)}`;
    return {
      node: draft.node(id, { stage: draft.stages[role], origin: block.span, files, inputs: of }),
      output: 'numbers',
    };
  };
  if ('fro_ckpt' in attributes) {
    inputs.frobenius = addFrobenius(draft, { base: draft.requiredBase([from]), decompose, origin: block.span });
  }
  if ('spn_ckpt' in attributes) inputs.spectral = numbersOf('spectral', { modules });
  if ('subspace' in attributes) inputs.projections = numbersOf('projections', { modules, factors });
  return draft.node(block.name, { stage: draft.stages.resize, origin: block.span, attributes, inputs });
}

/** U, σ and V of a LoRA: `raw:decompose`, or `raw:decompose[extract=64]` where other families are made LoRA of that rank first. */
export function addDecompose(
  draft: GraphDraft,
  asked: { readonly from: Reference; readonly extract?: number | undefined; readonly origin: Span },
): NodeId {
  const { from, extract, origin } = asked;
  const inputs = { lora: draft.lora(from) };
  const stage = draft.stages.decompose;
  const name = nameOfReference(from);
  if (extract === undefined) return draft.node(`${name}:decompose`, { stage, origin, inputs });
  const base = draft.baseOf(from);
  return draft.node(`${name}:decompose[extract=${extract}]`, {
    stage,
    origin,
    attributes: { extract },
    // What a GLoRA does depends on the weights that it is added to.
    files: base === undefined ? {} : draft.adaptedOf(base),
    inputs,
  });
}

/** Norms of a checkpoint's weights, for the modules of one LoRA. A second LoRA on the same checkpoint has its own. */
export function addFrobenius(
  draft: GraphDraft,
  asked: { readonly base: BlockOf<'checkpoint'>; readonly decompose: NodeId; readonly origin: Span },
): NodeInput {
  const { base, decompose, origin } = asked;
  const shared = `${base.name}:frobenius`;
  const first = draft.known(shared);
  const isFree = first === undefined || first.inputs.modules?.node === decompose;
  const id = isFree ? shared : `${shared}[${decompose.replace(':decompose', '')}]`;
  const inputs = { modules: { node: decompose, output: 'modules' } };
  const files = draft.adaptedOf(base);
  return { node: draft.node(id, { stage: draft.stages.frobenius, origin, files, inputs }), output: 'numbers' };
}

export function addChop(draft: GraphDraft, block: BlockOf<'chop'>): NodeId {
  const { from, ...written } = block.attributes;
  return draft.node(block.name, {
    stage: draft.stages.chop,
    origin: block.span,
    attributes: canonical(draft.stages.chop, written),
    // How it was said, for what is said about it.
    settings: withoutGaps(written),
    inputs: { lora: draft.lora(from) },
  });
}

export function addMerge(draft: GraphDraft, block: BlockOf<'merge'>): NodeId {
  const { from, precision } = block.attributes;
  const parts = byBlockName(from);
  return draft.node(block.name, {
    stage: draft.stages.merge,
    origin: block.span,
    attributes: { weights: parts.map(({ weight }) => weight), precision },
    inputs: draft.loras(parts),
  });
}

export function addSave(draft: GraphDraft, block: BlockOf<'save'>): NodeId {
  const { from, format, overwrite } = block.attributes;
  const target = draft.path({ text: block.name, writtenIn: block.span.source });
  // So that no path is taken for a block, or for this way of saying that it is none.
  const isTaken = draft.has(block.name) || block.name.startsWith('save:');
  const id = isTaken ? `save:${block.name}` : block.name;
  if (from.output !== undefined && from.output.suffix !== '.safetensors') {
    return draft.node(id, {
      stage: draft.stages.saveFile,
      origin: block.span,
      inputs: { file: outputOf(draft, from, from.output) },
      placement: { output: 'file', target, overwrite },
    });
  }
  const { kind } = draft.block(from.block, 'run', 'train', 'lora', 'resize', 'chop', 'merge', 'preview', 'analyze');
  if (pictureKinds.some((one) => one === kind)) {
    return draft.node(id, {
      stage: draft.stages.savePicture,
      origin: block.span,
      inputs: { picture: { node: from.block as NodeId, output: 'grid' } },
      placement: { output: 'picture', target, overwrite },
    });
  }
  return draft.node(id, {
    stage: draft.stages.save,
    origin: block.span,
    // The title stands in the file's header.
    attributes: { title: parse(target).name, format },
    inputs: { lora: draft.lora(from) },
    placement: { output: 'lora', target, overwrite },
  });
}
