// The graph of `lorac analyze`: the numbers of a LoRA and of the weights that it changes; with prompts, also pictures.
//
//   hero.safetensors ─▶ hero:decompose ─▶ hero:frobenius ─┬─▶ hero ─▶ report.json
//           │                             (of the base)   │
//           └─▶ hero:ablation ───────────────────────────────┘ ─▶ grid.png
//
// A file that does not have the names and the form that stages read comes through hero:lora first.

import type { SourceFile } from '../parser/source.ts';
import type { AbsolutePath, Graph, GraphNode, NodeId, NodeInput } from '../runtime/graph/graph.ts';
import type { BaseFiles } from '../runtime/graph/model-folder.ts';
import { pathIn } from '../runtime/graph/paths.ts';
import { stages } from '../runtime/stages/index.ts';
import { stemOf } from './lora-arguments.ts';

export interface AnalyzeJob {
  readonly lora: AbsolutePath;
  /** Whether the file has the form that stages read already. */
  readonly isCanonical: boolean;
  /** By role: one checkpoint, or the files of a diffusers folder that LoRAs adapt. */
  readonly base: BaseFiles;
  /** With all else that pictures need. */
  readonly whole: BaseFiles;
  /** `undefined`: numbers only. */
  readonly prompts: AbsolutePath | undefined;
  /** Of the effect, what the proposal is to keep. */
  readonly share: number;
  readonly mixed_precision: 'bf16' | 'fp32';
  readonly folder: AbsolutePath;
  readonly overwrite: boolean;
}

/** What the report is called in the folder, and the grid. */
export const REPORT = 'report.json';
export const GRID = 'grid.png';

/** What failures and histories call this program. */
const source: SourceFile = { path: 'lorac analyze', text: '' };
const bare = { origin: { source, start: 0, end: 0 }, attributes: {}, settings: {}, files: {}, inputs: {} };

export function analyzeGraph(job: AnalyzeJob): Graph {
  const { base, whole, prompts, share, mixed_precision, folder, overwrite } = job;
  const name = stemOf(job.lora);
  const id = (helper: string) => `${name}:${helper}` as NodeId;
  const adopted: GraphNode = { ...bare, id: id('lora'), stage: stages.lora, files: { lora: job.lora } };
  /** What every other node reads the LoRA from. */
  const from = job.isCanonical
    ? { files: { lora: job.lora }, inputs: {} }
    : { files: {}, inputs: { lora: { node: adopted.id, output: 'lora' } } };
  const decompose: GraphNode = { ...bare, ...from, id: id('decompose'), stage: stages.decompose };
  const frobenius: GraphNode = {
    ...bare,
    id: id('frobenius'),
    stage: stages.frobenius,
    files: base,
    inputs: { modules: { node: decompose.id, output: 'modules' } },
  };
  const ablation = prompts && {
    ...bare,
    id: id('ablation'),
    stage: stages.ablation,
    attributes: { share, sampler: 'euler_a', mixed_precision },
    files: { ...from.files, ...whole, prompts },
    inputs: from.inputs,
    placement: { output: 'grid', target: pathIn(folder, GRID), overwrite },
  };
  const seen: Record<string, NodeInput> = ablation ? { ablation: { node: ablation.id, output: 'ablation' } } : {};
  const analyze: GraphNode = {
    ...bare,
    id: name as NodeId,
    stage: stages.analyze,
    attributes: { label: name, share },
    // The command prints the report by itself.
    settings: { quiet: true },
    files: from.files,
    inputs: {
      ...from.inputs,
      factors: { node: decompose.id, output: 'factors' },
      frobenius: { node: frobenius.id, output: 'numbers' },
      ...seen,
    },
    placement: { output: 'report', target: pathIn(folder, REPORT), overwrite },
  };
  return {
    program: source.path,
    nodes: [...(job.isCanonical ? [] : [adopted]), decompose, frobenius, ...(ablation ? [ablation] : []), analyze],
  };
}
