// A LoRA as diffusers and PEFT save one: `unet.….lora_A.weight` and `lora_B.weight`, without alphas.
//
// There the scale of a module stands outside of the tensors, where many programs do not look: ComfyUI, and diffusers
// before 0.34, take it for 1. So it is 1: alpha / rank is multiplied into `lora_B`, in singles where halves would round.
//
// Ranks may differ. Before 0.41 diffusers then gave a module the scale r / rank, with some r of its own choice, unless
// metadata says ranks and alphas; so they are said, with one pattern for each rank. One for each module would cost a
// loader 40 s at full size: PEFT holds every module against every pattern, and Python remembers only 512 of them.

import type { StageFailure } from '../events.ts';
import { elementsIn } from '../safetensors/dtype.ts';
import type { Metadata } from '../safetensors/layout.ts';
import type { TensorToWrite } from '../safetensors/writer.ts';
import type { Family } from '../sdxl/lora.ts';
import { sdxlTargets } from '../sdxl/standard.ts';
import type { CanonicalLora, CanonicalModule } from './canonical.ts';
import type { FormattedLora } from './in-format.ts';
import { cannotBeWritten, nameIn } from './refuse-format.ts';
import { multipliedTensor, numberOf } from './tensor-values.ts';

/** Throws a `StageFailure` for all that is no LoRA or DoRA as PEFT has it. */
export async function inDiffusersFormat(lora: CanonicalLora): Promise<FormattedLora> {
  const [stranger] = lora.strangers;
  if (stranger !== undefined) {
    throw refusal(lora, `"${stranger.name}" belongs to no LoRA, and diffusers loads no file with such a tensor`);
  }
  const modules: PeftModule[] = [];
  for (const module of lora.modules) modules.push(await peftModule(lora, module));
  for (const component of new Set(modules.map((module) => module.component))) {
    refuseMixture(
      lora,
      modules.filter((module) => module.component === component),
    );
  }
  return { tensors: modules.flatMap(({ tensors }) => tensors), metadata: withSettings(lora.metadata, modules) };
}

interface PeftModule {
  /** `unet`, `text_encoder`, `text_encoder_2`. */
  readonly component: string;
  /** Inside of the component. */
  readonly path: string;
  readonly written: string;
  readonly rank: number;
  readonly isDora: boolean;
  readonly tensors: readonly TensorToWrite[];
}

const EXTRACT = 'A resize with extract makes LoRA modules of LoHa, LoKr, GLoRA and full.';
const EXTRACTED: readonly Family[] = ['LoHa', 'LoKr', 'GLoRA', 'full'];

function refusal(lora: CanonicalLora, reason: string, hint = 'Take another format.'): StageFailure {
  return cannotBeWritten(lora, 'diffusers', { reason, hint });
}

async function peftModule(lora: CanonicalLora, module: CanonicalModule): Promise<PeftModule> {
  const { family, written, tensors } = module;
  const refuse = (reason: string, hint?: string): StageFailure => refusal(lora, `"${written}" ${reason}`, hint);
  const name = nameIn('diffusers', lora, module);
  if (tensors.has('mid')) throw refuse('has a Tucker core, which PEFT does not have', 'A resize folds it.');
  const [up, down, alpha, magnitudes] = ['up', 'down', 'alpha', 'dora_scale'].map((role) => tensors.get(role));
  const isLora = family === 'LoRA' || family === 'DoRA';
  if (!isLora || up === undefined || down === undefined || alpha === undefined) {
    throw refuse(
      `is of kind ${family}, and diffusers loads LoRA and DoRA alone`,
      EXTRACTED.includes(family) ? EXTRACT : undefined,
    );
  }
  const extra = [...tensors.keys()].find((role) => !['up', 'down', 'alpha', 'dora_scale'].includes(role));
  if (extra !== undefined) throw refuse(`has "${extra}" as well, which PEFT does not have`);
  const rank = down.shape[0] ?? 0;
  if (rank === 0 || up.shape[1] !== rank) throw refuse('has factors that do not fit each other');
  const [out = 0] = up.shape;
  if (magnitudes && !(magnitudes.shape[0] === out && elementsIn(magnitudes.shape) === out)) {
    throw refuse('is a DoRA with one magnitude per input, and PEFT has one per output');
  }
  const sides = sidesOf(module, down);
  const withSides = (tensor: TensorToWrite, role: string, ends: readonly number[]): TensorToWrite => ({
    ...tensor,
    name: `${name}.${role}`,
    shape: [tensor.shape[0] ?? 0, tensor.shape[1] ?? 0, ...ends],
  });
  const scaled = multipliedTensor(up, (await numberOf(alpha)) / rank);
  const ones = sides.map(() => 1);
  const [component = '', ...path] = name.split('.');
  return {
    component,
    path: path.join('.'),
    written,
    rank,
    isDora: magnitudes !== undefined,
    tensors: [
      withSides(down, 'lora_A.weight', sides),
      withSides(scaled, 'lora_B.weight', ones),
      ...(magnitudes ? [{ ...magnitudes, ...magnitudeForm(name, out, ones) }] : []),
    ],
  };
}

/** Sides of the kernel. A few trainers leave those of 1×1 convolutions out, or give them to linear layers. */
function sidesOf({ name }: CanonicalModule, down: TensorToWrite): readonly number[] {
  const sides = down.shape.slice(2);
  if (sides.some((side) => side !== 1)) return sides;
  const kind = targets().get(name)?.kind;
  return kind === 'linear' ? [] : kind === 'conv1x1' ? [1, 1] : sides;
}

let known: ReturnType<typeof sdxlTargets> | undefined;

/** Made when it is asked for the first time: most files are never written in this format. */
function targets(): ReturnType<typeof sdxlTargets> {
  known ??= sdxlTargets();
  return known;
}

/** As PEFT calls it inside. It saves it without `weight`, and then transformers 5 does not find it in a text encoder. */
function magnitudeForm(name: string, out: number, ones: readonly number[]): Pick<TensorToWrite, 'name' | 'shape'> {
  return { name: `${name}.lora_magnitude_vector.weight`, shape: ones.length === 0 ? [out] : [1, out, ...ones] };
}

/** PEFT takes a whole network for one or the other. */
function refuseMixture(lora: CanonicalLora, modules: readonly PeftModule[]): void {
  const [dora, plain] = [true, false].map((isDora) => modules.find((module) => module.isDora === isDora));
  if (dora === undefined || plain === undefined) return;
  throw refusal(
    lora,
    `"${dora.written}" is a DoRA and "${plain.written}" is none, and PEFT has one kind for all modules of ${dora.component}`,
  );
}

/** What diffusers makes a `LoraConfig` of, for each component apart. */
function withSettings(metadata: Metadata | undefined, modules: readonly PeftModule[]): Metadata {
  const settings: Record<string, unknown> = {};
  for (const component of [...new Set(modules.map((module) => module.component))].sort()) {
    const inside = modules.filter((module) => module.component === component);
    const byRank = new Map<number, string[]>();
    for (const { rank, path } of inside) byRank.set(rank, [...(byRank.get(rank) ?? []), withoutHead(path)]);
    const [[common = 0] = [], ...others] = [...byRank].sort(([a, x], [b, y]) => y.length - x.length || a - b);
    const patterns = Object.fromEntries(others.map(([rank, paths]) => [`(?:${paths.sort().join('|')})`, rank]));
    Object.assign(settings, {
      [`${component}.r`]: common,
      [`${component}.lora_alpha`]: common,
      [`${component}.rank_pattern`]: patterns,
      [`${component}.alpha_pattern`]: patterns,
      [`${component}.target_modules`]: inside.map(({ path }) => withoutHead(path)).sort(),
      [`${component}.use_dora`]: inside.some(({ isDora }) => isDora),
    });
  }
  return new Map([...(metadata ?? []), ['lora_adapter_metadata', JSON.stringify(settings)]]);
}

/** transformers 5 took `text_model` out of the paths of one of the text encoders; PEFT is content with their ends. */
function withoutHead(path: string): string {
  return path.replace(/^text_model\./, '');
}
