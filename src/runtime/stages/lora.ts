// A LoRA file of any trainer, in the names and the form that all other stages read.
// What is understood gets its canonical name and an alpha; the rest is kept, and said. Bytes are copied.

import { cleanLine } from '../../parser/clean-text.ts';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import { whatFile } from '../inspect/what-file.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import type { Metadata } from '../safetensors/layout.ts';
import { writeSafetensors } from '../safetensors/writer.ts';
import type { Stage, StageContext } from '../stage.ts';
import { type CanonicalLora, canonicalLora, canonicalTensors, fileTensors } from '../surgery/canonical.ts';
import { listed, openLora } from '../surgery/weights-file.ts';
import { inputOf } from './input-of.ts';

export const lora: Stage = {
  name: 'lora',
  revision: 2,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    await using file = await called(context, () => openLora(inputOf(context, 'lora').path));
    await called(context, async () => refuseOthers(file));
    const content = canonicalLora(fileTensors(file));
    for (const message of oddities(content)) {
      context.report({ type: 'log', level: 'warning', message: cleanLine(message) });
    }
    const output = pathIn(context.work, 'lora.safetensors');
    await writeSafetensors({
      path: output,
      tensors: canonicalTensors(content),
      metadata: withBase(content),
      hashes: true,
      signal: context.signal,
      onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'bytes' }),
    });
    return { outputs: { lora: output } };
  },
};

/** What another node made is known by that node's name: where it is stored tells a user nothing. */
async function called<Result>(context: StageContext, read: () => Promise<Result>): Promise<Result> {
  const { node, output } = context.node.inputs.lora ?? {};
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof StageFailure) || node === undefined) throw error;
    const { path } = inputOf(context, 'lora');
    const name = `"${node}.${output?.replace('out.', '')}"`;
    throw new StageFailure({ ...error.failure, message: error.failure.message.replaceAll(`"${path}"`, name) });
  }
}

/** Throws a `StageFailure` unless the file is a LoRA. */
function refuseOthers(file: SafetensorsFile): void {
  const what = whatFile(file);
  if (what.kind === 'lora') return;
  if (what.kind === 'checkpoint') {
    throw notLora(`"${file.path}" is a checkpoint, not a LoRA.`, 'Name it in a checkpoint block.');
  }
  // What is said of other models is about the checkpoint that they are not.
  const isTold = what.message.endsWith('not a LoRA');
  const message = `"${file.path}" ${what.message}${isTold ? '' : ', and a LoRA is needed'}.`;
  throw notLora(message, isTold ? what.hint : 'Name a LoRA in a .safetensors file.');
}

function notLora(message: string, hint: string | undefined): StageFailure {
  return new StageFailure({ kind: 'bad-input', message: cleanLine(message), hint });
}

/** A1111 takes a file that says other things, and not this one, for Stable Diffusion 1. */
function withBase({ isSurelySdxl, metadata }: CanonicalLora): Metadata | undefined {
  if (metadata?.has('ss_base_model_version') || !isSurelySdxl()) return metadata;
  return new Map([...(metadata ?? []), ['ss_base_model_version', 'sdxl_base_v1-0']]);
}

function oddities({ modules, strangers }: CanonicalLora): readonly string[] {
  const foreign = modules.filter(({ spelling }) => spelling === undefined).map(({ written }) => written);
  const unknown = modules.filter(({ spelling, family }) => spelling && family === 'unknown').map(({ name }) => name);
  const said: string[] = [];
  const say = (names: readonly string[], reason: string): void => {
    if (names.length > 0) said.push(`Kept as they are, ${reason}: ${listed(names)}.`);
  };
  say(foreign, 'since they are modules of no network that lorac knows');
  say(
    strangers.map(({ name }) => name),
    'since they belong to no adapter that lorac knows',
  );
  if (unknown.length > 0) said.push(`Of no kind whose effect lorac knows, and kept: ${listed(unknown)}.`);
  return said;
}
