// Pictures of the prompts with the LoRAs that a training kept. Most are there already, since training makes them as it
// goes; changed prompts are rendered here, without training again.

import { writeFile } from 'node:fs/promises';
import type { Digest } from '../cache/digest.ts';
import { pathIn } from '../graph/paths.ts';
import type { Stage, StageContext } from '../stage.ts';
import type { SamplePrompt } from '../worker/protocol.ts';
import { type Answered, askWorkerForFiles } from './ask-worker.ts';
import { inputOf } from './input-of.ts';
import { findPicture, type Picture, pictureName, pictureSteps, pictureTools, publishPicture } from './pictures.ts';
import { RunFiles } from './run-files.ts';
import { readPrompts } from './sample-prompts.ts';

/** One line of the output `samples`, which is a list of these. */
export interface Sample {
  readonly step: number;
  readonly index: number;
  readonly prompt: SamplePrompt;
  readonly picture: Digest;
}

interface Wanted {
  readonly name: string;
  readonly step: number;
  readonly index: number;
  readonly lora: string;
  readonly picture: Picture;
}

export const samples: Stage = {
  name: 'samples',
  revision: 1,
  pool: 'gpu',
  runsIn: 'worker',
  tools: pictureTools,
  async run(context) {
    const wanted = await planPictures(context);
    const found = new Map<string, Digest>();
    for (const { name, picture } of wanted) {
      const digest = await findPicture(context.store, picture);
      if (digest) found.set(name, digest);
    }
    const missing = wanted.filter(({ name }) => !found.has(name));
    const answered = missing.length > 0 ? await render(context, missing, found) : undefined;
    const list = wanted.flatMap(({ name, step, index, picture }): Sample[] => {
      const digest = found.get(name);
      return digest === undefined ? [] : [{ step, index, prompt: picture.prompt, picture: digest }];
    });
    await show(context, list);
    const output = pathIn(context.work, 'samples.json');
    await writeFile(output, JSON.stringify(list));
    return {
      outputs: { samples: output },
      members: list.map(({ picture }) => picture),
      ...(answered ? { record: answered.record } : {}),
    };
  },
};

/** The pictures of every kept step, in order. A training that was stored with other settings may lack some steps. */
async function planPictures(context: StageContext): Promise<readonly Wanted[]> {
  const { sampler, every, steps, mixed_precision } = context.node.attributes as unknown as {
    readonly sampler: SamplePrompt['sampler'];
    readonly every: number;
    readonly steps: number;
    readonly mixed_precision: Picture['mixed_precision'];
  };
  const prompts = await readPrompts(inputOf(context, 'prompts').path, sampler);
  const checkpoint = inputOf(context, 'checkpoint').digest;
  return pictureSteps({ every, steps }).flatMap((step) => {
    const lora = step === steps ? inputOf(context, 'lora') : context.inputs[`step.${step}`];
    if (lora === undefined) return [];
    return prompts.map((prompt, index) => ({
      name: `${step}.${index}`,
      step,
      index,
      lora: lora.path,
      picture: { lora: lora.digest, checkpoint, prompt, mixed_precision },
    }));
  });
}

/** Renders what is missing and adds it to `found`, each picture as soon as it is there. */
async function render(
  context: StageContext,
  missing: readonly Wanted[],
  found: Map<string, Digest>,
): Promise<Answered> {
  const byName = new Map(missing.map((wanted) => [wanted.name, wanted]));
  const { mixed_precision } = (missing[0] as Wanted).picture;
  const items = missing.map(({ name, lora, picture }) => {
    const whole = { path: lora, strength: 1, blocks: null };
    return { name, lora: whole, prompt: picture.prompt, output: pathIn(context.work, `${name}.png`) };
  });
  const checkpoint = inputOf(context, 'checkpoint').path;
  const work = { op: 'sample', checkpoint, mixed_precision, items } as const;
  return askWorkerForFiles(context, work, async (name, path) => {
    const wanted = byName.get(name);
    if (wanted === undefined) throw new Error(`Internal error: the worker rendered "${name}", which nobody asked for.`);
    await context.requireUnchanged([checkpoint]);
    found.set(name, await publishPicture(context.store, wanted.picture, path));
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
  await files.keepOnlyPictures(names);
  context.report({ type: 'artifact', name: 'samples', path: pathIn(files.folder, 'samples') });
}
