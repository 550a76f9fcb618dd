// The base that a command line names: a checkpoint, or the folder that diffusers keeps a model in.
//
//   sdxl/unet/diffusion_pytorch_model.safetensors             checkpoint.unet
//   sdxl/text_encoder/model.fp16.safetensors                  checkpoint.text_encoder
//   sdxl/text_encoder_2/model-00001-of-00002.safetensors      checkpoint.text_encoder_2
//   sdxl/text_encoder_2/model-00002-of-00002.safetensors      checkpoint.text_encoder_2.2

import { readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import { CHECKPOINT_LIMITS } from '../runtime/safetensors/header.ts';
import { groupModules } from '../runtime/sdxl/lora.ts';
import { openWeights } from '../runtime/surgery/weights-file.ts';
import { noSuchFile } from './no-such-file.ts';
import { UsageError } from './usage-error.ts';

/** By the roles that stages know them under. */
export type BaseFiles = { readonly [role: string]: AbsolutePath };

export interface Base {
  readonly files: BaseFiles;
  /** `undefined` where its names do not tell. */
  readonly isSdxl: boolean | undefined;
}

const COMPONENTS = ['unet', 'text_encoder', 'text_encoder_2'] as const;

/** Throws `UsageError` for what is no base, and a `StageFailure` for a file that cannot be read. */
export async function openBase(path: string): Promise<Base> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw noSuchFile(path, 'file or folder');
  const files = found.isDirectory() ? filesIn(path) : { checkpoint: absolutePath(resolve(path)) };
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

function filesIn(folder: string): BaseFiles {
  const found = COMPONENTS.flatMap((component) => {
    const weights = weightsIn(join(folder, component));
    return weights.map((path, index): [string, AbsolutePath] => [
      index === 0 ? `checkpoint.${component}` : `checkpoint.${component}.${index + 1}`,
      absolutePath(resolve(path)),
    ]);
  });
  if (found.length > 0) return Object.fromEntries(found);
  throw new UsageError(
    `"${folder}" is no folder of a diffusers model: there is no .safetensors file in its ${COMPONENTS.join(', ')}.`,
    'name a checkpoint in one .safetensors file, or a folder with these in it',
  );
}

/** One variant of a model's weights: the plain one before fp16, and these before others. All shards of it. */
function weightsIn(folder: string): readonly string[] {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return [];
  const variants = new Map<string, Shard[]>();
  for (const name of readdirSync(folder).sort()) {
    const shard = readShard(name);
    if (shard) variants.set(shard.variant, [...(variants.get(shard.variant) ?? []), shard]);
  }
  const order = (variant: string): number => (variant === '' ? 0 : variant === 'fp16' ? 1 : 2);
  const [best] = [...variants.keys()].sort((a, b) => order(a) - order(b) || (a < b ? -1 : 1));
  const shards = best === undefined ? [] : (variants.get(best) ?? []);
  const [{ of = 1 } = {}] = shards;
  if (shards.length > 0 && shards.length !== of) {
    throw new UsageError(`"${folder}" has ${shards.length} of ${of} parts of its weights.`, 'fetch the others');
  }
  return shards.map(({ name }) => join(folder, name));
}

interface Shard {
  readonly name: string;
  readonly variant: string;
  readonly of: number;
}

/** `model.safetensors`, `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`, `model-00001-of-00002.fp16.safetensors` */
function readShard(name: string): Shard | undefined {
  const parts = /^(?:model|diffusion_pytorch_model)((?:[.-][\w-]+)*)\.safetensors$/.exec(name);
  if (!parts) return undefined;
  const [, rest = ''] = parts;
  const [range, of = '1'] = /-\d+-of-(\d+)/.exec(rest) ?? [];
  const variant = (range === undefined ? rest : rest.replace(range, '')).replace(/^\./, '');
  return { name, variant, of: Number(of) };
}
