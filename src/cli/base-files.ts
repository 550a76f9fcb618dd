// The base that a command line names: a checkpoint, or the folder that diffusers keeps a model in.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import {
  ADAPTED,
  adaptedParts,
  type BaseFiles,
  BrokenFolder,
  modelFolderAt,
  wholeModel,
} from '../runtime/graph/model-folder.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import { groupModules } from '../runtime/sdxl/lora.ts';
import { openWeights } from '../runtime/surgery/weights-file.ts';
import { noSuchFile } from './no-such-file.ts';
import { UsageError } from './usage-error.ts';

export interface Base {
  /** What LoRAs adapt of it. */
  readonly files: BaseFiles;
  /** `undefined` where its names do not tell. */
  readonly isSdxl: boolean | undefined;
}

/** Throws `UsageError` for what is no base, and a `StageFailure` for a file that cannot be read. */
export async function openBase(path: string): Promise<Base> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw noSuchFile(path, 'file or folder');
  const absolute = absolutePath(resolve(path));
  const folder = found.isDirectory() ? absolute : modelFolderAt(absolute);
  const files = folder === undefined ? { checkpoint: absolute } : filesIn(folder, path);
  const names = (await Promise.all(Object.values(files).map(tensorNames))).flat();
  if (!names.some((name) => CHECKPOINT.test(name)) && groupModules(names).modules.length > 0) {
    throw new UsageError(
      `"${path}" is a LoRA, and the first of the files is the base that LoRAs were trained on.`,
      'write the checkpoint first, then the LoRAs',
    );
  }
  if (!names.some((name) => WEIGHTS.test(name))) {
    throw new UsageError(
      `"${path}" is no checkpoint: it has no weights of a UNet or a text encoder.`,
      'name the checkpoint that the LoRAs were trained on, or the folder of a diffusers model',
    );
  }
  return { files, isSdxl: isSdxl(files, names) };
}

async function tensorNames(path: AbsolutePath): Promise<readonly string[]> {
  await using file = await openWeights(path, CHECKPOINT_LIMITS);
  return [...file.header.tensors.keys()];
}

/** No adapter has tensors of these names. */
const CHECKPOINT = /^(?:model\.diffusion_model|conditioner\.embedders|cond_stage_model)\./;

/** As checkpoints and as diffusers' files call them. */
const WEIGHTS =
  /^(?:model\.diffusion_model|conditioner\.embedders|cond_stage_model|(?:unet\.)?(?:down_blocks|up_blocks|mid_block)|(?:text_encoder(?:_2)?\.)?text_model)\./;

function isSdxl(files: BaseFiles, names: readonly string[]): boolean | undefined {
  if (names.some((name) => name.startsWith('cond_stage_model.'))) return false;
  if ('checkpoint.text_encoder_2' in files) return true;
  const isXl =
    /^(?:conditioner\.embedders\.|model\.diffusion_model\.label_emb\.|(?:unet\.)?add_embedding\.|text_encoder_2\.)/;
  if (names.some((name) => isXl.test(name))) return true;
  const hasUnet = names.some((name) => /^(?:model\.diffusion_model\.|(?:unet\.)?down_blocks\.)/.test(name));
  return hasUnet ? false : undefined;
}

/** `written`: what the folder is called on the command line. */
function filesIn(folder: AbsolutePath, written: string): BaseFiles {
  const found = orUsageError(() => adaptedParts(folder));
  if (Object.keys(found).length > 0) return found;
  throw new UsageError(
    `"${written}" is no folder of a diffusers model: there is no .safetensors file in its ${ADAPTED.join(', ')}.`,
    'name a checkpoint in one .safetensors file, or a folder with these in it',
  );
}

/** All that makes an SDXL, for pictures. Throws `UsageError`. */
export function wholeBase(path: string, { files }: Base): BaseFiles {
  const folder = modelFolderAt(absolutePath(resolve(path)));
  return folder === undefined ? files : orUsageError(() => wholeModel(folder));
}

function orUsageError<Result>(look: () => Result): Result {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof BrokenFolder)) throw error;
    throw new UsageError(error.message, error.hint);
  }
}
