// A LoRA file with only some blocks of another, each multiplied by its weight: what the stage and the command share.
// What is copied keeps its bytes; memory does not grow with the file.

import type { BlockName } from '../../parser/blocks.ts';
import type { LoraFormat } from '../../parser/lora-formats.ts';
import { StageFailure } from '../events.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import {
  type BlockChoice,
  type BlockWeights,
  blockWeights,
  unmaskedBlocks,
  wantedBlocks,
  weightIn,
} from '../sdxl/block-weights.ts';
import type { Family, LoraModule, LoraModules } from '../sdxl/lora.ts';
import { inFormat } from './in-format.ts';
import { copied, isLinear, weighted } from './weigh.ts';
import { listed, withHistory } from './weights-file.ts';

export interface ChopOptions {
  readonly output: string;
  readonly choice: BlockChoice;
  /** What the modules are called then; without it, what they are called now. */
  readonly format?: LoraFormat;
  readonly signal: AbortSignal;
  /** Told what is odd about the choice for this file. */
  warn(message: string): void;
  onProgress?(done: number, total: number): void;
}

/** What became of the file. */
export interface Chopped {
  /** Of those that the file has, in the order of the network; a layer stands apart where its encoder has another weight. */
  readonly kept: readonly { readonly block: BlockName; readonly weight: number }[];
  readonly dropped: readonly BlockName[];
  /** Of the file that was chopped. */
  readonly tensors: number;
  /** The format that names were changed to; `undefined` where they are as before. */
  readonly renamed: LoraFormat | undefined;
  readonly sizeBytes: number;
}

/** Throws a `StageFailure` where the choice cannot be carried out on this file, whose modules are `content`. */
export async function chopFile(file: SafetensorsFile, content: LoraModules, options: ChopOptions): Promise<Chopped> {
  const { output, choice, format, signal, onProgress, warn } = options;
  const weights = blockWeights(choice, content.network);
  refuseUnweighable(content.modules, weights);
  const chosen = { tensors: chooseTensors(file, content, weights), metadata: file.header.metadata };
  const { path } = file;
  const { tensors, metadata } = format ? await inFormat({ path, ...chosen, partOf: file }, format) : chosen;
  const renamed = tensors === chosen.tensors ? undefined : format;
  for (const message of oddities(choice, content)) warn(message);
  const sizeBytes = await writeSafetensors({
    path: output,
    tensors,
    metadata: withHistory(metadata, { stage: 'chop', weights, ...(renamed && { format: renamed }) }),
    hashes: true,
    signal,
    ...(onProgress && { onProgress }),
  });
  const parts = weighedParts(content, weights);
  const kept = parts.filter(({ weight }) => weight !== 0);
  const dropped = parts.filter(({ weight }) => weight === 0).map(({ block }) => block);
  return { kept, dropped, tensors: chosen.tensors.length, renamed, sizeBytes };
}

/** In the order of the network. */
export function presentBlocks({ network, modules }: LoraModules): readonly BlockName[] {
  const present = new Set(modules.map((module) => module.block));
  return network.blocks.filter((block) => present.has(block));
}

/** The blocks of the file, and apart from its encoder each layer that has a weight of its own. */
function weighedParts({ network, modules }: LoraModules, weights: BlockWeights): Chopped['kept'] {
  const found = new Map<BlockName, number>();
  for (const { block, layer } of modules) {
    if (block === undefined) continue;
    const part = layer !== undefined && weights[layer] !== undefined ? layer : block;
    found.set(part, weightIn(weights, { block, layer }));
  }
  const order = network.blocks.flatMap((block) => [block, ...(network.layers.get(block) ?? [])]);
  return order.flatMap((block) => {
    const weight = found.get(block);
    return weight === undefined ? [] : [{ block, weight }];
  });
}

function weightOf({ block, layer }: LoraModule, weights: BlockWeights): number {
  return block === undefined ? 1 : weightIn(weights, { block, layer });
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
    message: `The weight ${weightOf(first, weights)} cannot be given to ${first.layer ?? first.block}, which has ${modulesIn(refused)}: ${WHY_NOT[first.family]}.`,
    hint: 'Give such blocks the weight 0 or 1.',
  });
}

const WHY_NOT: { readonly [family in Family]?: string } = {
  DoRA: 'what it does depends on the base weight, and is proportional to none of its tensors',
  OFT: 'it turns the base weight, and what that does is proportional to none of its tensors',
  unknown: 'what its tensors do together is not known',
};

function modulesIn([first, ...others]: readonly LoraModule[]): string {
  const family = first?.family;
  const names = [first, ...others].flatMap((module) => (module?.family === family ? (module?.name ?? []) : []));
  return `${names.length} ${names.length === 1 ? 'module' : 'modules'} of kind ${family} (${listed(names, 2)})`;
}

function chooseTensors(file: SafetensorsFile, content: LoraModules, weights: BlockWeights): readonly TensorToWrite[] {
  const present = presentBlocks(content);
  if (present.length === 0) {
    const what = content.modules.length === 0 ? 'no LoRA modules' : `no modules of ${content.network.title}`;
    throw new StageFailure({ kind: 'bad-input', message: `"${file.path}" has ${what}.` });
  }
  if (!content.modules.some(({ block, layer }) => block !== undefined && weightIn(weights, { block, layer }) !== 0)) {
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
  const { network, modules } = content;
  const present = presentBlocks(content);
  const unmasked = unmaskedBlocks(choice, network).filter((block) => present.includes(block));
  if (unmasked.length > 0) {
    const those = unmasked.length === 1 ? 'it is' : 'they are';
    said.push(`The mask has no number for ${unmasked.join(', ')}, which the LoRA has; ${those} left out.`);
  }
  const parts = new Set(modules.flatMap(({ block, layer }) => [block, layer]));
  const inVain = [...wantedBlocks(choice, network)].filter(([, blocks]) => !blocks.some((block) => parts.has(block)));
  if (inVain.length > 0)
    said.push(`The LoRA has no ${inVain.map(([word]) => word).join(', ')}; it has ${present.join(', ')}.`);
  const foreign = modules.filter((module) => module.block === undefined).map((module) => module.name);
  const unknown = [...foreign, ...content.strangers];
  if (unknown.length > 0)
    said.push(`Kept as they are, since they belong to no block that lorac knows: ${listed(unknown)}.`);
  return said;
}
