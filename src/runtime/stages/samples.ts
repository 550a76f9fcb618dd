// Pictures of the prompts with the LoRAs that a training kept, and what shows all of them together. Most are there
// already, since training makes them as it goes; changed prompts are rendered here, without training again.
//
// Outputs: `samples`, a list; `montage`, a PNG with a row for each prompt and a column for each step; `animation`, a WebP
// with a frame for each step.

import { readFile, writeFile } from 'node:fs/promises';
import type { Digest } from '../cache/digest.ts';
import type { GraphNode, NodeId } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import type { ShowContext, Stage, StageContext } from '../stage.ts';
import type { SamplePrompt } from '../worker/protocol.ts';
import { baseOf } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';
import { drawMontage } from './pictures/draw-montage.ts';
import { type PictureJob, planPictures, renderPictures, type WantedPicture } from './pictures/render.ts';
import { promptLabel, readPrompts } from './pictures/sample-prompts.ts';
import { pictureName, pictureSteps, pictureTools } from './pictures/stored.ts';
import { montageNames, RunFiles } from './run-files.ts';

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
  revision: 3,
  pool: 'gpu',
  runsIn: 'worker',
  tools: pictureTools,
  async run(context) {
    const prompts = await readPrompts(inputOf(context, 'prompts').path, attributesOf(context).sampler);
    const wanted = wantedPictures(context, prompts);
    const { mixed_precision, fp8_base, process } = attributesOf(context);
    const job = { base: baseOf(context), mixed_precision, fp8_base, process, wanted };
    const { pictures } = await renderPictures(context, job, await planPictures(context, job));
    const list = wanted.flatMap(({ name, step, index, prompt }): Sample[] => {
      const picture = pictures.get(name);
      return picture === undefined ? [] : [{ step, index, prompt, picture }];
    });
    const output = pathIn(context.work, 'samples.json');
    await writeFile(output, JSON.stringify(list));
    const shown = list.map(({ step, index, picture }) => ({
      step,
      row: index,
      picture: context.store.blobPath(picture),
    }));
    const { montage, animation, record } = await drawMontage(context, prompts.map(promptLabel), shown);
    return {
      outputs: { samples: output, montage, animation },
      members: list.map(({ picture }) => picture),
      record,
    };
  },
  shown: { block: (node) => trainOf(node), layOut },
};

interface Attributes {
  readonly sampler: SamplePrompt['sampler'];
  readonly at_first: boolean;
  readonly every: number;
  readonly steps: number;
  readonly mixed_precision: PictureJob['mixed_precision'];
  readonly fp8_base?: PictureJob['fp8_base'];
  readonly process?: PictureJob['process'];
}

const attributesOf = (context: StageContext) => context.node.attributes as unknown as Attributes;

/** The pictures of every kept step, in order. A training that was stored with other settings may lack some steps. */
function wantedPictures(context: StageContext, prompts: readonly SamplePrompt[]): readonly Wanted[] {
  const { steps } = attributesOf(context);
  return pictureSteps(attributesOf(context)).flatMap((step) => {
    const role = step === 0 ? 'init' : step === steps ? 'lora' : `step.${step}`;
    const file = context.inputs[role];
    // What a training begins with, where nothing else is named, is the bare checkpoint.
    if (file === undefined && step > 0) return [];
    const lora = file === undefined ? null : { file, strength: 1, blocks: null };
    return prompts.map((prompt, index) => ({ name: `${step}.${index}`, step, index, lora, prompt }));
  });
}

/** Copies for the user, where the folder shows the training that they are of. Those of prompts that are no more go. */
async function layOut(context: ShowContext): Promise<boolean> {
  const { entry, entries, node, store, report } = context;
  const files = await RunFiles.open(context, trainOf(node));
  const train = entries.get(trainOf(node) as NodeId);
  if (train === undefined || (await files.whose()).training !== train.fingerprint) return false;
  const { samples: list, montage, animation } = entry.outputs;
  if (list === undefined || montage === undefined || animation === undefined) return false;
  const names = new Set<string>();
  for (const { step, index, picture } of JSON.parse(await readFile(list.path, 'utf8')) as readonly Sample[]) {
    const name = pictureName(step, index);
    names.add(name);
    await files.copy(store.blobPath(picture), 'samples', name);
  }
  await files.keepOnlyPictures('samples', names);
  report({ type: 'artifact', name: 'samples', path: pathIn(files.folder, 'samples') });
  for (const [name, { path }] of Object.entries({ montage, animation })) {
    report({ type: 'artifact', name, path: await files.copy(path, montageNames[name as 'montage']) });
  }
  return files.isWhole;
}

const trainOf = ({ settings }: GraphNode) => (settings as unknown as { readonly train: string }).train;
