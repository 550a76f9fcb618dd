// Whether files are an SDXL checkpoint, what its network looks like, and which VAE it carries.
// Only headers and the VAE are read. Checkpoints that share a VAE share latents, in whichever form they are.

import { createHash } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import { type ModelTensors, openModel } from '../model/model-tensors.ts';
import { isProjectionTurned } from '../model/text-projection.ts';
import { compareUtf8 } from '../safetensors/layout.ts';
import { type Architecture, NotSdxl, VAE } from '../sdxl/architecture.ts';
import { checkTargets, loraTargets } from '../sdxl/modules.ts';
import type { Stage, StageContext } from '../stage.ts';
import { baseOf } from './checkpoint-files.ts';

const PICKLES = ['.ckpt', '.pt', '.pth', '.bin'];

export const checkpoint: Stage = {
  name: 'checkpoint',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const { files, paths } = baseOf(context);
    for (const path of paths) await refuseByName(path);
    const [one = ''] = paths;
    await using model = await told(one, () => openModel(files));
    const outputs = { architecture: pathIn(context.work, 'architecture.json'), vae: pathIn(context.work, 'vae.json') };
    await writeFile(outputs.architecture, JSON.stringify(await told(model.path, () => architectureOf(model))));
    if (await isProjectionTurned(model)) context.report({ type: 'log', level: 'warning', message: turned(model) });
    await writeFile(outputs.vae, JSON.stringify({ digest: await digestVae(model, context) }));
    return { outputs };
  },
};

async function refuseByName(path: string): Promise<void> {
  if (PICKLES.includes(extname(path).toLowerCase())) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `"${path}" is a pickled checkpoint, and loading one runs code of whoever made it.`,
      hint: 'Use the .safetensors version of the model, or convert the file with a tool that you trust.',
    });
  }
  const facts = await stat(path).catch(() => undefined);
  if (facts?.isDirectory()) {
    throw new StageFailure({
      kind: 'bad-input',
      message: `"${path}" is a folder, and no diffusers model is in it.`,
      hint: 'Name a checkpoint in one .safetensors file, or a folder with unet, text_encoder, text_encoder_2 and vae.',
    });
  }
}

/** What a user hears of files that are no SDXL. */
async function told<Result>(path: string, read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof NotSdxl)) throw error;
    throw new StageFailure({ kind: 'bad-input', message: `"${path}" ${error.message}.`, hint: error.hint });
  }
}

async function architectureOf(model: ModelTensors): Promise<Architecture> {
  const architecture = await model.architecture();
  checkTargets(loraTargets(architecture), model.tensors);
  return architecture;
}

function turned({ path }: ModelTensors): string {
  return (
    `"${path}" has the text projection of SDXL the wrong way round, as some converters leave it: whatever makes ` +
    'pictures with this file gets another pooled text than SDXL was trained with. Use another copy of the model, or ' +
    'write text_projection = transposed in the train block, which trains with the one that is meant.'
  );
}

/** SHA-256 over name, type, shape and bytes of each tensor of the VAE, by name: free of where they lie. */
async function digestVae({ tensors }: ModelTensors, context: StageContext): Promise<string> {
  const parts = [...tensors.values()].filter(({ name }) => name.startsWith(VAE));
  const total = parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const hash = createHash('sha256');
  let done = 0;
  for (const { name, dtype, shape, sizeBytes, bytes } of parts.sort((a, b) => compareUtf8(a.name, b.name))) {
    context.signal.throwIfAborted();
    hash.update(`${JSON.stringify([name.slice(VAE.length), dtype, shape])}\n`);
    hash.update(await bytes());
    done += sizeBytes;
    context.report({ type: 'progress', done, total, unit: 'bytes' });
  }
  return hash.digest('hex');
}
