// A LoRA with only some blocks of another, each multiplied by its weight.
// What is copied keeps its bytes; memory does not grow with the file.

import { BLOCKS, type BlockName } from '../../parser/blocks.ts';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../safetensors/writer.ts';
import {
  type BlockChoice,
  type BlockWeights,
  blockWeights,
  unmaskedBlocks,
  wantedBlocks,
} from '../sdxl/block-weights.ts';
import { groupModules, type LoraModule, type LoraModules } from '../sdxl/lora.ts';
import type { Stage, StageContext } from '../stage.ts';
import { copied, isLinear, weighted } from './weigh.ts';
import { listed, openLora, withHistory } from './weights-file.ts';

export const chop: Stage = {
  name: 'chop',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  canonical: (written) => ({ weights: blockWeights(written as BlockChoice) }),
  async run(context) {
    const { lora } = context.inputs;
    if (lora === undefined) throw new Error('Internal error: a chop has no LoRA.');
    const { weights } = context.node.attributes as { readonly weights: BlockWeights };
    await using file = await openLora(lora.path);
    const content = groupModules(file.header.tensors.keys());
    refuseUnweighable(content.modules, weights);
    const tensors = chooseTensors(file, content, weights);
    warn(context, content);
    const output = pathIn(context.work, 'lora.safetensors');
    await writeSafetensors({
      path: output,
      tensors,
      metadata: withHistory(file.header.metadata, { stage: 'chop', weights }),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};

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

function presentBlocks(content: LoraModules): readonly BlockName[] {
  const present = new Set(content.modules.map((module) => module.block));
  return BLOCKS.filter((block) => present.has(block));
}

/** What there is to say comes from how the program put it, which the weights alone do not tell. */
function warn(context: StageContext, content: LoraModules): void {
  const written = context.node.settings as BlockChoice;
  const say = (message: string): void => context.report({ type: 'log', level: 'warning', message });
  const present = presentBlocks(content);
  const unmasked = unmaskedBlocks(written).filter((block) => present.includes(block));
  if (unmasked.length > 0) {
    const those = unmasked.length === 1 ? 'it is' : 'they are';
    say(`The mask has no number for ${unmasked.join(', ')}, which the LoRA has; ${those} left out.`);
  }
  const inVain = [...wantedBlocks(written)].filter(([, blocks]) => !blocks.some((block) => present.includes(block)));
  if (inVain.length > 0)
    say(`The LoRA has no ${inVain.map(([word]) => word).join(', ')}; it has ${present.join(', ')}.`);
  const foreign = content.modules.filter((module) => module.block === undefined).map((module) => module.name);
  const unknown = [...foreign, ...content.strangers];
  if (unknown.length > 0) say(`Kept as they are, since they belong to no block that lorac knows: ${listed(unknown)}.`);
}
