// Pictures of the prompts with the LoRAs that a training kept. Most are there already, since training makes them as it
// goes; changed prompts are rendered here, without training again.

import { writeFile } from 'node:fs/promises';
import type { Digest } from '../cache/digest.ts';
import { pathIn } from '../graph/paths.ts';
import type { Stage, StageContext } from '../stage.ts';
import type { SamplePrompt } from '../worker/protocol.ts';
import { baseOf } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';
import { type PictureJob, planPictures, renderPictures, type WantedPicture } from './pictures/render.ts';
import { readPrompts } from './pictures/sample-prompts.ts';
import { pictureName, pictureSteps, pictureTools } from './pictures/stored.ts';
import { RunFiles } from './run-files.ts';

/** One line of the output `samples`, which is a list of these. */
export interface Sample {
  readonly step: number;
  readonly index: number;
  readonly prompt: SamplePrompt;
  readonly picture: Digest;
}

interface Wanted extends WantedPicture {
  readonly step: number;
  readonly index: number;
}

export const samples: Stage = {
  name: 'samples',
  revision: 2,
  pool: 'gpu',
  runsIn: 'worker',
  tools: pictureTools,
  async run(context) {
    const wanted = await wantedPictures(context);
    const { mixed_precision, process } = context.node.attributes as unknown as Attributes;
    const job = { base: baseOf(context), mixed_precision, process, wanted };
    const { pictures, record } = await renderPictures(context, job, await planPictures(context, job));
    const list = wanted.flatMap(({ name, step, index, prompt }): Sample[] => {
      const picture = pictures.get(name);
      return picture === undefined ? [] : [{ step, index, prompt, picture }];
    });
    await show(context, list);
    const output = pathIn(context.work, 'samples.json');
    await writeFile(output, JSON.stringify(list));
    return {
      outputs: { samples: output },
      members: list.map(({ picture }) => picture),
      ...(record && { record }),
    };
  },
};

interface Attributes {
  readonly sampler: SamplePrompt['sampler'];
  readonly every: number;
  readonly steps: number;
  readonly mixed_precision: PictureJob['mixed_precision'];
  readonly process?: PictureJob['process'];
}

/** The pictures of every kept step, in order. A training that was stored with other settings may lack some steps. */
async function wantedPictures(context: StageContext): Promise<readonly Wanted[]> {
  const { sampler, every, steps } = context.node.attributes as unknown as Attributes;
  const prompts = await readPrompts(inputOf(context, 'prompts').path, sampler);
  return pictureSteps({ every, steps }).flatMap((step) => {
    const file = step === steps ? inputOf(context, 'lora') : context.inputs[`step.${step}`];
    if (file === undefined) return [];
    const lora = { file, strength: 1, blocks: null };
    return prompts.map((prompt, index) => ({ name: `${step}.${index}`, step, index, lora, prompt }));
  });
}

/** Lays copies out for the user, and takes away those of prompts that are no more. */
async function show(context: StageContext, list: readonly Sample[]): Promise<void> {
  const { train } = context.node.settings as unknown as { readonly train: string };
  const files = await RunFiles.open(context, train);
  const names = new Set<string>();
  for (const { step, index, picture } of list) {
    const name = pictureName(step, index);
    names.add(name);
    await files.copy(context.store.blobPath(picture), 'samples', name);
  }
  await files.keepOnlyPictures('samples', names);
  context.report({ type: 'artifact', name: 'samples', path: pathIn(files.folder, 'samples') });
}
