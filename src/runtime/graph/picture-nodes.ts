// The nodes of blocks that look at LoRAs: preview and analyze.

import { type BlockOf, nameOfReference } from '../../parser/model.ts';
import type { NodeId, NodeInput } from './graph.ts';
import type { GraphDraft } from './graph-draft.ts';
import { addDecompose, addFrobenius } from './surgery-nodes.ts';

export function addPreview(draft: GraphDraft, block: BlockOf<'preview'>): NodeId {
  const { loras, base, prompts, strengths, without, sampler, mixed_precision } = block.attributes;
  const checkpoint = base === undefined ? draft.requiredBase(loras) : draft.block(base.block, 'checkpoint');
  return draft.node(block.name, {
    stage: draft.stages.preview,
    origin: block.span,
    // Names stand in the picture.
    attributes: {
      labels: loras.map(nameOfReference),
      strengths,
      without,
      sampler,
      mixed_precision,
      ...draft.processOf(checkpoint),
    },
    files: { ...draft.weightsOf(checkpoint), prompts: draft.path(prompts) },
    inputs: draft.loras(loras),
  });
}

export function addAnalyze(draft: GraphDraft, block: BlockOf<'analyze'>): NodeId {
  const { from, prompts, share, sampler, mixed_precision } = block.attributes;
  const origin = block.span;
  const base = block.attributes.base
    ? draft.block(block.attributes.base.block, 'checkpoint')
    : draft.requiredBase([from]);
  const lora = draft.lora(from);
  const decompose = addDecompose(draft, { from, origin });
  const frobenius = addFrobenius(draft, { base, decompose, origin });
  const inputs: { [role: string]: NodeInput } = { lora, factors: { node: decompose, output: 'factors' }, frobenius };
  if (prompts !== undefined) {
    const ablation = draft.node(`${block.name}:ablation`, {
      stage: draft.stages.ablation,
      origin,
      attributes: { share, sampler, mixed_precision, ...draft.processOf(base) },
      files: { ...draft.weightsOf(base), prompts: draft.path(prompts) },
      inputs: { lora },
    });
    inputs.ablation = { node: ablation, output: 'ablation' };
    inputs.grid = { node: ablation, output: 'grid' };
  }
  return draft.node(block.name, {
    stage: draft.stages.analyze,
    origin,
    attributes: { label: nameOfReference(from), share },
    inputs,
  });
}
