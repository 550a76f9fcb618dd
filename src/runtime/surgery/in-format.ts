// A LoRA as a file of a certain format has it: names, shapes and bytes of its tensors, and its metadata.
// What a format cannot say is refused before anything is written, with the module and the reason.

import type { LoraFormat } from '../../parser/lora-formats.ts';
import type { Metadata } from '../safetensors/layout.ts';
import type { TensorToWrite } from '../safetensors/writer.ts';
import {
  type CanonicalLora,
  canonicalLora,
  canonicalTensors,
  KOHYA_SDXL,
  type LoraTensors,
  tensorName,
} from './canonical.ts';
import { inDiffusersFormat } from './diffusers-format.ts';
import { nameIn } from './refuse-format.ts';

export interface FormattedLora {
  readonly tensors: readonly TensorToWrite[];
  readonly metadata: Metadata | undefined;
}

/** Throws a `StageFailure`. What has kohya's names already is the same in that format, to the last byte. */
export async function inFormat(lora: LoraTensors, format: LoraFormat): Promise<FormattedLora> {
  if (format === 'kohya' && lora.tensors.every(({ name }) => hasKohyaName(name))) return lora;
  const canonical = canonicalLora(lora);
  switch (format) {
    case 'kohya':
      return canonical.keepsNames ? lora : { tensors: canonicalTensors(canonical), metadata: canonical.metadata };
    case 'diffusers':
      return inDiffusersFormat(canonical);
    default:
      return { tensors: renamed(canonical, format), metadata: canonical.metadata };
  }
}

/** PEFT's suffixes are to be found behind names of any trainer. */
function hasKohyaName(tensor: string): boolean {
  const dot = tensor.indexOf('.');
  return KOHYA_SDXL.test(tensor.slice(0, dot)) && !/^\.lora(?:_[A-Z]|\.|_linear|_magnitude)/.test(tensor.slice(dot));
}

/** Formats that differ from kohya's by the names of modules alone. Tensors of no module stay as they are. */
function renamed(lora: CanonicalLora, format: LoraFormat): readonly TensorToWrite[] {
  const tensors = lora.modules.flatMap((module) => {
    const name = nameIn(format, lora, module);
    return [...module.tensors].map(([role, tensor]) => ({ ...tensor, name: tensorName(name, role) }));
  });
  return [...tensors, ...lora.strangers];
}
