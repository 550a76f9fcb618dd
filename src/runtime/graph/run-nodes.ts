// The nodes of commands of the user's own, and of what they read.

import type { BlockOf, Reference } from '../../parser/model.ts';
import type { NodeId, NodeInput } from './graph.ts';
import type { GraphDraft } from './graph-draft.ts';
import { folderOf } from './paths.ts';

export function addRun(draft: GraphDraft, block: BlockOf<'run'>): NodeId {
  const { command, inputs = {}, outputs, env = {} } = block.attributes;
  const read = Object.entries(inputs);
  const files = read.flatMap(([name, input]) => ('text' in input ? [[`in.${name}`, draft.path(input)]] : []));
  const artifacts = read.flatMap(([name, input]) => ('text' in input ? [] : [{ name, ...artifactOf(draft, input) }]));
  return draft.node(block.name, {
    stage: draft.stages.run,
    origin: block.span,
    attributes: {
      command,
      outputs: { ...outputs },
      env: { ...env },
      suffixes: Object.fromEntries(artifacts.map(({ name, suffix }) => [name, suffix])),
    },
    settings: { folder: folderOf(block.span.source) },
    files: Object.fromEntries(files),
    inputs: Object.fromEntries(artifacts.map(({ name, input }) => [`in.${name}`, input])),
  });
}

/** What a reference means, with the ending that says what it is. */
function artifactOf(draft: GraphDraft, reference: Reference): { readonly input: NodeInput; readonly suffix: string } {
  const { block, output } = reference;
  if (output !== undefined) return { input: outputOf(draft, reference, output), suffix: output.suffix };
  const { kind } = draft.block(block, 'train', 'lora', 'resize', 'chop', 'merge', 'preview', 'analyze');
  const isPicture = kind === 'preview' || kind === 'analyze';
  return isPicture
    ? { input: { node: block as NodeId, output: 'grid' }, suffix: '.png' }
    : { input: draft.lora(reference), suffix: '.safetensors' };
}

/** The file as the run wrote it, or the picture that shows those of a training together. */
export function outputOf(
  draft: GraphDraft,
  { block }: Reference,
  { name }: NonNullable<Reference['output']>,
): NodeInput {
  const { kind } = draft.block(block, 'run', 'train');
  return kind === 'train'
    ? { node: `${block}:samples` as NodeId, output: name }
    : { node: block as NodeId, output: `out.${name}` };
}
