// A LoRA of any trainer as merging reads it: under kohya's names, wherever the bytes of its tensors come from.

import { StageFailure } from '../../events.ts';
import { type BaseGuess, guessBase } from '../../inspect/base-guess.ts';
import { type ModuleFacts, moduleFacts } from '../../inspect/module-facts.ts';
import type { SafetensorsFile } from '../../safetensors/file.ts';
import type { Metadata } from '../../safetensors/layout.ts';
import type { TensorToWrite } from '../../safetensors/writer.ts';
import { readAdapterSettings } from '../../sdxl/adapter-settings.ts';
import { groupModules, type LoraModule } from '../../sdxl/lora.ts';
import { sdxlTargets } from '../../sdxl/standard.ts';
import { canonicalLora, canonicalTensors, fileTensors } from '../canonical.ts';
import { numberOf, valuesOf } from '../tensor-values.ts';

export interface MergeInput {
  readonly file: SafetensorsFile;
  /** What messages call it. */
  readonly label: string;
  /** Of its ΔW; not 0. */
  readonly weight: number;
}

/** The tensors of a LoRA by their canonical names. */
export interface LoraSource {
  readonly label: string;
  readonly weight: number;
  /** Tensors of one number that say how others are meant, such as alpha. */
  readonly numbers: ReadonlyMap<string, number>;
  tensor(name: string): TensorToWrite;
  /** In memory of its own. */
  bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

export interface MergeContent {
  readonly source: LoraSource;
  readonly modules: readonly ModuleFacts[];
  /** Tensors that belong to no module. */
  readonly strangers: readonly string[];
  readonly metadata: Metadata | undefined;
  /** By names and shapes: metadata is often wrong. */
  readonly base: BaseGuess;
}

/** Throws a `StageFailure` for a file that is no LoRA, or one that cannot be understood. */
export async function readContent({ file, label, weight }: MergeInput): Promise<MergeContent> {
  const canonical = canonicalLora({ ...fileTensors(file), path: label });
  const byName = new Map(canonicalTensors(canonical).map((tensor) => [tensor.name, tensor]));
  const { modules: grouped, strangers, network } = groupModules(byName.keys());
  if (grouped.length === 0) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `"${label}" has no LoRA modules.`,
      hint: 'Only LoRAs and their like can be merged, not checkpoints.',
    });
  }
  const source = sourceOf({ byName, label, weight, numbers: await numbersOf(byName, grouped) });
  const targets = sdxlTargets();
  const tensor = (name: string) => ({ ...source.tensor(name), begin: 0, end: 0 });
  // Scales that PEFT keeps outside of modules are alphas by now, but for modules of no network that we know.
  const settings = readAdapterSettings(canonical.metadata);
  const options = { file: { tensor }, scalars: source.numbers, settings, targets };
  const modules = grouped.map((module) => moduleFacts(module, options));
  const { metadata } = canonical;
  return {
    source,
    modules,
    strangers,
    metadata,
    base: guessBase(modules, { network, targets, metadata: undefined }),
  };
}

type Tensors = ReadonlyMap<string, TensorToWrite>;

function sourceOf(
  options: Pick<LoraSource, 'label' | 'weight' | 'numbers'> & { readonly byName: Tensors },
): LoraSource {
  const { byName, label, weight, numbers } = options;
  const tensor = (name: string): TensorToWrite => {
    const found = byName.get(name);
    if (found === undefined) throw new Error(`Internal error: "${label}" has no tensor ${JSON.stringify(name)}.`);
    return found;
  };
  return { label, weight, numbers, tensor, bytesOf: async (name) => new Uint8Array(await valuesOf(tensor(name))) };
}

async function numbersOf(byName: Tensors, modules: readonly LoraModule[]): Promise<ReadonlyMap<string, number>> {
  const values = new Map<string, number>();
  for (const { tensors } of modules) {
    for (const role of ['alpha', 'scale', 'scalar', 'on_input']) {
      const tensor = byName.get(tensors.get(role) ?? '');
      if (tensor !== undefined) values.set(tensor.name, await numberOf(tensor));
    }
  }
  return values;
}
