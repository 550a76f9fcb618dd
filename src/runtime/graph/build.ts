// From a checked program to the graph of everything that it asks for.
//
//   buildGraph(program, { home, stages }): Graph
//
//   checkpoint pony                        dataset hero
//      pony ────────────┐                     hero:manifest
//       │               └──────┐        images │      │ captions
//       │                  raw:latents ◀───────┤      │
//       │                      │               ▼      ▼
//   train raw { sample }       └────────────▶  raw ──────▶ raw:samples
//                                               │ lora
//   lora other { path = … }    other            │
//                                │              │
//   merge both                   └──▶ both ◀────┤
//                                               │
//   resize small { from = raw }            raw:decompose ──▶ pony:frobenius, raw:spectral, raw:projections
//                                               │            (each only when a recipe names its key)
//                                             small
//                                               │
//   chop tiny, save "hero.safetensors"        tiny ──▶ hero.safetensors
//
//   preview grid { loras = [raw, tiny] }      raw, tiny ──▶ grid ──▶ grid.png
//   analyze what { from = raw  prompts = … }  raw:decompose, pony:frobenius, what:ablation ──▶ what
//
//   run half { inputs = { lora = raw } … }    raw ──▶ half ──▶ half.small:lora, where half.small is taken for a LoRA
//
// A block's main node has the block's name; helpers are "block:stage", made once and shared. Variants of a block are
// blocks like any others here, "small[thr=-3]", and have helpers of their own where these differ.

import { orderBlocks } from '../../parser/checking/order.ts';
import type { CheckedBlock, CheckedProgram } from '../../parser/model.ts';
import { unreachable } from '../../parser/unreachable.ts';
import type { Graph, NodeId } from './graph.ts';
import { GraphDraft, type Stages } from './graph-draft.ts';
import type { Places } from './paths.ts';
import { addAnalyze, addPreview } from './picture-nodes.ts';
import { addRun } from './run-nodes.ts';
import { shareHelpers } from './shared-helpers.ts';
import { addChop, addLora, addMerge, addResize, addSave } from './surgery-nodes.ts';
import { addCheckpoint, addDataset, addTrain } from './training-nodes.ts';

export type { Stages } from './graph-draft.ts';

export function buildGraph(program: CheckedProgram, options: Places & { readonly stages: Stages }): Graph {
  const { ordered } = orderBlocks(program.blocks);
  const draft = new GraphDraft(ordered, options);
  for (const block of ordered) addBlock(draft, block);
  return { program: program.source.path, nodes: shareHelpers(draft.nodes) };
}

/** Gives the block's main node. What the block is made from has its nodes already. */
function addBlock(draft: GraphDraft, block: CheckedBlock): NodeId {
  switch (block.kind) {
    case 'checkpoint':
      return addCheckpoint(draft, block);
    case 'dataset':
      return addDataset(draft, block);
    case 'train':
      return addTrain(draft, block);
    case 'lora':
      return addLora(draft, block);
    case 'resize':
      return addResize(draft, block);
    case 'chop':
      return addChop(draft, block);
    case 'merge':
      return addMerge(draft, block);
    case 'preview':
      return addPreview(draft, block);
    case 'analyze':
      return addAnalyze(draft, block);
    case 'run':
      return addRun(draft, block);
    case 'save':
      return addSave(draft, block);
    default:
      return unreachable(block);
  }
}
