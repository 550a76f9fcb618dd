// A LoRA file with only some blocks of another, each multiplied by its weight: what the stage and the command share.
// What is copied keeps its bytes; memory does not grow with the file.

import { BLOCKS, type BlockName } from '../../parser/blocks.ts';
import { StageFailure } from '../events.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import {
  type BlockChoice,
  type BlockWeights,
  blockWeights,
  unmaskedBlocks,
  wantedBlocks,
} from '../sdxl/block-weights.ts';
import type { LoraModule, LoraModules } from '../sdxl/lora.ts';
import { copied, isLinear, weighted } from './weigh.ts';
import { listed, withHistory } from './weights-file.ts';

export interface ChopOptions {
  readonly output: string;
  readonly choice: BlockChoice;
  readonly signal: AbortSignal;
  /** Told what is odd about the choice for this file. */
  warn(message: string): void;
  onProgress?(done: number, total: number): void;
}

/** What became of the file. */
export interface Chopped {
  /** Of those that the file has, in the order of the network. */
  readonly kept: readonly { readonly block: BlockName; readonly weight: number }[];
  readonly dropped: readonly BlockName[];
  readonly tensors: number;
  readonly sizeBytes: number;
}

/** Throws a `StageFailure` where the choice cannot be carried out on this file, whose modules are `content`. */
export async function chopFile(file: SafetensorsFile, content: LoraModules, options: ChopOptions): Promise<Chopped> {
  const { output, choice, signal, onProgress, warn } = options;
  const weights = blockWeights(choice);
  refuseUnweighable(content.modules, weights);
  const tensors = chooseTensors(file, content, weights);
  for (const message of oddities(choice, content)) warn(message);
  const sizeBytes = await writeSafetensors({
    path: output,
    tensors,
    metadata: withHistory(file.header.metadata, { stage: 'chop', weights }),
    hashes: true,
    signal,
    ...(onProgress && { onProgress }),
  });
  const present = presentBlocks(content);
  const kept = present.flatMap((block) => {
    const weight = weights[block];
    return weight === undefined ? [] : [{ block, weight }];
  });
  const dropped = present.filter((block) => weights[block] === undefined);
  return { kept, dropped, tensors: tensors.length, sizeBytes };
}

/** In the order of the network. */
export function presentBlocks(content: LoraModules): readonly BlockName[] {
  const present = new Set(content.modules.map((module) => module.block));
  return BLOCKS.filter((block) => present.has(block));
}

function weightOf(module: LoraModule, weights: BlockWeights): number {
  return module.block === undefined ? 1 : (weights[module.block] ?? 0);
}

/** All such modules at once, before anything is written. */
function refuseUnweighable(modules: readonly LoraModule[], weights: BlockWeights): void {
  const refused = modules.filter((module) => {
    const weight = weightOf(module, weights);
    return weight !== 0 && weight !== 1 && !isLinear(module);
  });
  const [first] = refused;
  if (first === undefined) return;
  throw new StageFailure({
    kind: 'bad-input',
    message: `The weight ${weightOf(first, weights)} cannot be given to ${first.block}: ${modulesIn(refused)} of kind ${first.family} are in it, whose effect cannot be multiplied.`,
    hint: 'Give such blocks the weight 0 or 1.',
  });
}

function modulesIn(modules: readonly LoraModule[]): string {
  return `${modules.length} ${modules.length === 1 ? 'module' : 'modules'} (${listed(
    modules.map((module) => module.name),
    2,
  )})`;
}

function chooseTensors(file: SafetensorsFile, content: LoraModules, weights: BlockWeights): readonly TensorToWrite[] {
  const present = presentBlocks(content);
  if (present.length === 0) {
    const what = content.modules.length === 0 ? 'no LoRA modules' : 'no modules of SDXL';
    throw new StageFailure({ kind: 'bad-input', message: `"${file.path}" has ${what}.` });
  }
  if (!present.some((block) => weights[block] !== undefined)) {
    throw new StageFailure({
      kind: 'nothing-left',
      message: `Nothing would be left: none of the blocks that stay is in the LoRA, which has ${present.join(', ')}.`,
      hint: 'Keep at least one of them.',
    });
  }
  const tensors = content.modules.flatMap((module) => weighted(file, module, weightOf(module, weights)));
  return [...tensors, ...copied(file, content.strangers)];
}

/** What there is to say comes from how the choice was put, which the weights alone do not tell. */
function oddities(choice: BlockChoice, content: LoraModules): readonly string[] {
  const said: string[] = [];
  const present = presentBlocks(content);
  const unmasked = unmaskedBlocks(choice).filter((block) => present.includes(block));
  if (unmasked.length > 0) {
    const those = unmasked.length === 1 ? 'it is' : 'they are';
    said.push(`The mask has no number for ${unmasked.join(', ')}, which the LoRA has; ${those} left out.`);
  }
  const inVain = [...wantedBlocks(choice)].filter(([, blocks]) => !blocks.some((block) => present.includes(block)));
  if (inVain.length > 0)
    said.push(`The LoRA has no ${inVain.map(([word]) => word).join(', ')}; it has ${present.join(', ')}.`);
  const foreign = content.modules.filter((module) => module.block === undefined).map((module) => module.name);
  const unknown = [...foreign, ...content.strangers];
  if (unknown.length > 0)
    said.push(`Kept as they are, since they belong to no block that lorac knows: ${listed(unknown)}.`);
  return said;
}
