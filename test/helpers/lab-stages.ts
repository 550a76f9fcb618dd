// Stages that do in milliseconds what the real ones are about: their outputs are texts that hold what they were made
// from. The manifest is the real one.

import { readFile, writeFile } from 'node:fs/promises';
import { digestOf } from '../../src/runtime/cache/digest.ts';
import { type FingerprintKey, fingerprintOf } from '../../src/runtime/cache/fingerprint.ts';
import type { Stages } from '../../src/runtime/graph/build.ts';
import { pathIn } from '../../src/runtime/graph/paths.ts';
import type { Artifact, Stage, StageContext } from '../../src/runtime/stage.ts';
import { type ManifestImage, manifest } from '../../src/runtime/stages/manifest.ts';
import { run } from '../../src/runtime/stages/run.ts';
import { saveFile } from '../../src/runtime/stages/save-as-it-is.ts';

type Texts = { readonly [output: string]: string };

/** A native stage from a function of its inputs' texts. */
export function textStage(
  name: string,
  make: (inputs: Texts, context: StageContext) => Texts | Promise<Texts>,
  more: Partial<Stage> = {},
): Stage {
  return {
    name,
    revision: 1,
    pool: 'cpu',
    runsIn: 'native',
    async run(context) {
      const texts = await make(await textsOf(context.inputs), context);
      return { outputs: await written(context, texts) };
    },
    ...more,
  };
}

async function textsOf(inputs: { readonly [role: string]: Artifact }): Promise<Texts> {
  const entries = Object.entries(inputs).map(async ([role, { path }]) => [role, await readFile(path, 'utf8')] as const);
  return Object.fromEntries(await Promise.all(entries));
}

async function written({ work }: StageContext, texts: Texts) {
  const entries = Object.entries(texts).map(async ([output, text]) => {
    await writeFile(pathIn(work, `${output}.txt`), text);
    return [output, pathIn(work, `${output}.txt`)] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Every image is an entry of its own, as with the real stage. `encoded` tells of those that were not stored. */
export function latentsStage(encoded: (path: string) => void = () => {}): Stage {
  return {
    name: 'latents',
    revision: 1,
    pool: 'gpu',
    runsIn: 'native',
    async run(context) {
      const { store, work, imagePaths } = context;
      const { images, vae } = await textsOf(context.inputs);
      const members: Artifact['digest'][] = [];
      for (const { digest, bucket } of JSON.parse(images as string) as readonly ManifestImage[]) {
        const inputs = { image: digest as Artifact['digest'], vae: digestOf(vae as string) };
        const key: FingerprintKey = { stage: 'latent', revision: 1, attributes: { bucket }, inputs };
        const fingerprint = fingerprintOf(key);
        let entry = await store.lookupEntry(fingerprint);
        if (entry === undefined) {
          const path = imagePaths.get(digest as Artifact['digest']);
          if (path === undefined) throw new Error(`Nobody knows where ${digest} is.`);
          encoded(path);
          await writeFile(pathIn(work, digest), `latents of ${digest}`);
          entry = await store.publishEntry(fingerprint, key, { latents: pathIn(work, digest) });
        }
        members.push((entry.outputs.latents as Artifact).digest);
      }
      return { outputs: await written(context, { latents: JSON.stringify(members) }), members };
    },
  };
}

const line = (name: string, texts: Texts) =>
  `${name}(${Object.values(texts).map((text) => digestOf(text).slice(0, 8))})`;

/** Leaves `step.N` behind for each step that is kept, as the real training does. */
const train = textStage(
  'train',
  (inputs, { node }) => {
    const steps = Number(node.attributes.steps);
    const every = Number(node.settings.save_every);
    const lora = line('train', { ...inputs, attributes: JSON.stringify(node.attributes) });
    const kept = Array.from({ length: Math.ceil(steps / every) - 1 }, (_, index) => (index + 1) * every);
    return {
      lora,
      metrics: `took ${Math.random()} s`,
      ...Object.fromEntries(kept.map((step) => [`step.${step}`, `${lora} at ${step}`])),
    };
  },
  { pool: 'gpu' },
);

/** Rounds its threshold, so that two thresholds can give one result. */
const resize = textStage('resize', ({ lora, factors }, { node }) => ({
  lora: line('resize', { lora: lora as string, factors: factors as string }) + Math.round(Number(node.attributes.thr)),
}));

export const labStages: Stages = {
  checkpoint: textStage('checkpoint', ({ checkpoint }) => ({
    architecture: 'sdxl',
    vae: (checkpoint as string).split('\n')[0] as string,
  })),
  manifest,
  latents: latentsStage(),
  train,
  samples: textStage('samples', (inputs) => ({ samples: Object.keys(inputs).sort().join() }), { pool: 'gpu' }),
  ema: textStage('ema', (inputs) => ({ lora: line('ema', inputs) })),
  decompose: textStage('decompose', ({ lora }) => ({ factors: `factors of ${lora}`, modules: 'all' }), { pool: 'gpu' }),
  frobenius: textStage('frobenius', (inputs) => ({ numbers: line('frobenius', inputs) })),
  spectral: textStage('spectral', (inputs) => ({ numbers: line('spectral', inputs) })),
  projections: textStage('projections', (inputs) => ({ numbers: line('projections', inputs) })),
  resize,
  chop: textStage('chop', ({ lora }, { node }) => ({ lora: `chop ${JSON.stringify(node.attributes)} ${lora}` })),
  save: textStage('save', ({ lora }, { node }) => ({ lora: `${node.attributes.title}: ${lora}` })),
  lora: textStage('lora', ({ lora }) => ({ lora: `adopted ${lora}` })),
  merge: textStage('merge', (inputs, { node }) => ({
    lora: line('merge', { ...inputs, attributes: JSON.stringify(node.attributes) }),
  })),
  preview: textStage('preview', (inputs) => ({ grid: line('preview', inputs) }), { pool: 'gpu' }),
  ablation: textStage('ablation', (inputs) => ({ ablation: line('ablation', inputs), grid: 'a picture' }), {
    pool: 'gpu',
  }),
  analyze: textStage('analyze', (inputs) => ({ report: line('analyze', inputs) })),
  savePicture: textStage('savePicture', ({ picture }) => ({ picture: picture as string })),
  run,
  saveFile,
};
