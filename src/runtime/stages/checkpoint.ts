// Whether a file is an SDXL checkpoint, what its network looks like, and which VAE it carries.
// Only the header and the VAE are read. Checkpoints that share a VAE share latents.

import { createHash } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { StageFailure } from '../events.ts';
import { pathIn } from '../graph/paths.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { CHECKPOINT_LIMITS } from '../safetensors/header.ts';
import { compareUtf8 } from '../safetensors/layout.ts';
import { type Architecture, NotSdxl, readArchitecture, VAE } from '../sdxl/architecture.ts';
import { checkTargets, loraTargets } from '../sdxl/modules.ts';
import type { Stage, StageContext } from '../stage.ts';
import { openWeights } from '../surgery/weights-file.ts';

const PICKLES = ['.ckpt', '.pt', '.pth', '.bin'];

export const checkpoint: Stage = {
  name: 'checkpoint',
  revision: 1,
  pool: 'io',
  runsIn: 'native',
  async run(context) {
    const artifact = context.inputs.checkpoint;
    if (artifact === undefined) throw new Error('Internal error: a checkpoint has no file.');
    await refuseByName(artifact.path);
    await using file = await openWeights(artifact.path, CHECKPOINT_LIMITS);
    const outputs = { architecture: pathIn(context.work, 'architecture.json'), vae: pathIn(context.work, 'vae.json') };
    await writeFile(outputs.architecture, JSON.stringify(architectureOf(file)));
    await writeFile(outputs.vae, JSON.stringify({ digest: await digestVae(file, context) }));
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
      message: `"${path}" is a folder, and a checkpoint in one .safetensors file is needed.`,
      hint: 'Models in diffusers folders have a single-file version in most places.',
    });
  }
}

function architectureOf(file: SafetensorsFile): Architecture {
  try {
    const architecture = readArchitecture(file.header.tensors, file.header.metadata);
    checkTargets(loraTargets(architecture), file.header.tensors);
    return architecture;
  } catch (error) {
    if (!(error instanceof NotSdxl)) throw error;
    throw new StageFailure({ kind: 'bad-input', message: `"${file.path}" ${error.message}.`, hint: error.hint });
  }
}

/** SHA-256 over name, type, shape and bytes of each tensor of the VAE, by name: free of where they lie in the file. */
async function digestVae(file: SafetensorsFile, context: StageContext): Promise<string> {
  const tensors = [...file.header.tensors.values()].filter(({ name }) => name.startsWith(VAE));
  const total = tensors.reduce((sum, { begin, end }) => sum + end - begin, 0);
  const hash = createHash('sha256');
  let done = 0;
  for (const info of tensors.sort((a, b) => compareUtf8(a.name, b.name))) {
    context.signal.throwIfAborted();
    hash.update(`${JSON.stringify([info.name.slice(VAE.length), info.dtype, info.shape])}\n`);
    hash.update(await file.bytesOf(info.name));
    done += info.end - info.begin;
    context.report({ type: 'progress', done, total, unit: 'bytes' });
  }
  return hash.digest('hex');
}
