// What a format cannot say, told with the file, the module and the reason.

import { cleanLine } from '../../parser/clean-text.ts';
import type { LoraFormat } from '../../parser/lora-formats.ts';
import { StageFailure } from '../events.ts';
import { moduleNameIn } from '../sdxl/formats.ts';
import type { CanonicalLora, CanonicalModule } from './canonical.ts';

export function cannotBeWritten(
  lora: CanonicalLora,
  format: LoraFormat,
  { reason, hint }: { readonly reason: string; readonly hint: string },
): StageFailure {
  const message = cleanLine(`"${lora.path}" cannot be written in the format ${format}: ${reason}.`);
  return new StageFailure({ kind: 'bad-input', message, hint });
}

/** The module's name in the format. Throws a `StageFailure` where it has none. */
export function nameIn(format: LoraFormat, lora: CanonicalLora, { spelling, written }: CanonicalModule): string {
  const name = spelling && moduleNameIn(format, spelling, lora.generation);
  if (name !== undefined) return name;
  throw cannotBeWritten(lora, format, {
    reason: `"${written}" is no module of SDXL or Stable Diffusion that has a name there`,
    hint: 'The format kohya keeps names that lorac does not know.',
  });
}
