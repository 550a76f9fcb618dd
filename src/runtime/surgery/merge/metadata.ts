// What a merged LoRA says about itself: all that the first file said, with ranks that are true now, and the weights.

import type { Metadata } from '../../safetensors/layout.ts';
import { changeNetworkArgs, type Ranked, setRanks } from '../rank-metadata.ts';
import { withHistory } from '../weights-file.ts';
import type { MergeContent } from './input.ts';
import type { MergedModule } from './modules.ts';
import type { Precision } from './numbers.ts';

/** Readers take a file with other metadata but not this one for Stable Diffusion 1. */
const BASE = 'ss_base_model_version';

/** Two files of one name would stand for each other in a list of LoRAs. */
const TITLES = ['ss_output_name', 'modelspec.title'];

interface Result {
  readonly modules: readonly MergedModule[];
  readonly precision: Precision;
  /** What the file calls itself; `undefined`: as the first input does. */
  readonly title: string | undefined;
}

export function mergedMetadata(contents: readonly MergeContent[], { modules, precision, title }: Result): Metadata {
  const [first] = contents;
  const metadata = withHistory(first?.metadata, {
    stage: 'merge',
    weights: contents.map(({ source }) => source.weight),
    precision,
  });
  const base = contents.map((content) => content.metadata?.get(BASE)).find((version) => version !== undefined);
  if (base !== undefined) metadata.set(BASE, base);
  for (const key of TITLES) if (title !== undefined) metadata.set(key, title);
  // PEFT's ranks and alphas: the tensors say them.
  metadata.delete('lora_adapter_metadata');
  setRanks(metadata, modules.flatMap(rankedOf));
  if (modules.every(({ form }) => form === 'LoRA')) {
    changeNetworkArgs(metadata, (args) => {
      if (args.has('algo')) args.set('algo', 'locon');
    });
  }
  return metadata;
}

function rankedOf({ rank, alpha, tensors }: MergedModule): readonly Ranked[] {
  if (rank === undefined || alpha === undefined) return [];
  const isWide = tensors.some(({ shape }) => shape.slice(2).some((side) => side > 1));
  return [{ rank, alpha, isWide }];
}
