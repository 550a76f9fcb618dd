// A LoRA with only some blocks of another, each multiplied by its weight.
// What is copied keeps its bytes; memory does not grow with the file.

import { BLOCKS, type BlockName } from '../../parser/blocks.ts';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import { type BlockChoice, type BlockWeights, blockWeights } from '../sdxl/block-weights.ts';
import { groupModules, type LoraModule, type LoraModules } from '../sdxl/lora.ts';
import type { Stage, StageContext } from '../stage.ts';
import { copied, isLinear, weighted } from './weigh.ts';
import { listed, openLora, withHistory } from './weights-file.ts';

export const chop: Stage = {
  name: 'chop',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const { lora } = context.inputs;
    if (lora === undefined) throw new Error('Internal error: a chop has no LoRA.');
    const chosen = blockWeights(context.node.attributes as BlockChoice);
    await using file = await openLora(lora.path);
    const content = groupModules(file.header.tensors.keys());
    refuseUnweighable(content.modules, chosen);
    const tensors = chooseTensors(file, content, chosen);
    warn(context, content, chosen);
    const output = pathIn(context.work, 'lora.safetensors');
    await writeSafetensors({
      path: output,
      tensors,
      metadata: withHistory(file.header.metadata, { stage: 'chop', weights: record(chosen) }),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};

function weightOf(module: LoraModule, chosen: BlockWeights): number {
  return module.block === undefined ? 1 : (chosen.weights.get(module.block) ?? 0);
}

/** All such modules at once, before anything is written. */
function refuseUnweighable(modules: readonly LoraModule[], chosen: BlockWeights): void {
  const refused = modules.filter((module) => {
    const weight = weightOf(module, chosen);
    return weight !== 0 && weight !== 1 && !isLinear(module);
  });
  const [first] = refused;
  if (first === undefined) return;
  throw new StageFailure({
    kind: 'bad-input',
    message: `The weight ${weightOf(first, chosen)} cannot be given to ${first.block}: ${modulesIn(refused)} of kind ${first.family} are in it, whose effect cannot be multiplied.`,
    hint: 'Give such blocks the weight 0 or 1.',
  });
}

function modulesIn(modules: readonly LoraModule[]): string {
  return `${modules.length} ${modules.length === 1 ? 'module' : 'modules'} (${listed(
    modules.map((module) => module.name),
    2,
  )})`;
}

function chooseTensors(file: SafetensorsFile, content: LoraModules, chosen: BlockWeights): readonly TensorToWrite[] {
  const tensors = content.modules.flatMap((module) => weighted(file, module, weightOf(module, chosen)));
  const present = presentBlocks(content);
  if (present.length === 0 && content.modules.length === 0) {
    throw new StageFailure({ kind: 'bad-input', message: `"${file.path}" has no LoRA modules.` });
  }
  if (tensors.length === 0) {
    throw new StageFailure({
      kind: 'nothing-left',
      message: `Nothing would be left: none of the blocks that stay is in the LoRA, which has ${present.join(', ')}.`,
      hint: 'Keep at least one of them.',
    });
  }
  return [...tensors, ...copied(file, content.strangers)];
}

function presentBlocks(content: LoraModules): readonly BlockName[] {
  const present = new Set(content.modules.map((module) => module.block));
  return BLOCKS.filter((block) => present.has(block));
}

function warn(context: StageContext, content: LoraModules, chosen: BlockWeights): void {
  const say = (message: string): void => context.report({ type: 'log', level: 'warning', message });
  const present = presentBlocks(content);
  const unmasked = chosen.unmasked.filter((block) => present.includes(block));
  if (unmasked.length > 0) {
    say(`The mask has no number for ${unmasked.join(', ')}, which the LoRA has; they are left out.`);
  }
  const inVain = [...chosen.wanted].filter(([, blocks]) => !blocks.some((block) => present.includes(block)));
  if (inVain.length > 0)
    say(`The LoRA has no ${inVain.map(([word]) => word).join(', ')}; it has ${present.join(', ')}.`);
  const foreign = content.modules.filter((module) => module.block === undefined).map((module) => module.name);
  const unknown = [...foreign, ...content.strangers];
  if (unknown.length > 0) say(`Kept as they are, since they belong to no block that lorac knows: ${listed(unknown)}.`);
}

/** By block, so that it says the same whatever way the program chose. Blocks that are left out are not named. */
function record(chosen: BlockWeights): { readonly [block: string]: number } {
  return Object.fromEntries([...chosen.weights].filter(([, weight]) => weight !== 0));
}
