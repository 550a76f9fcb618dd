// The folder that diffusers keeps a model in, and the roles under which nodes have its files.
//
//   sdxl/model_index.json                                     names the folder as well
//   sdxl/unet/diffusion_pytorch_model.safetensors             checkpoint.unet
//   sdxl/text_encoder/model.fp16.safetensors                  checkpoint.text_encoder
//   sdxl/text_encoder_2/model-00001-of-00002.safetensors      checkpoint.text_encoder_2
//   sdxl/text_encoder_2/model-00002-of-00002.safetensors      checkpoint.text_encoder_2.2
//   sdxl/vae/diffusion_pytorch_model.safetensors              checkpoint.vae
//   sdxl/scheduler/scheduler_config.json                      checkpoint.scheduler
//
// Looks at names alone: what is in the files is for the checkpoint's stage.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { AbsolutePath } from './graph.ts';
import { pathIn } from './paths.ts';

/** By the roles that stages know them under; `checkpoint` where one file has everything. */
export type BaseFiles = { readonly [role: string]: AbsolutePath };

/** The parts that LoRAs adapt. */
export const ADAPTED = ['unet', 'text_encoder', 'text_encoder_2'] as const;
export const PARTS = [...ADAPTED, 'vae'] as const;
export type Part = (typeof PARTS)[number];

/** Why a folder is no whole SDXL. `message` is a sentence. */
export class BrokenFolder extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

/** The folder of a model that a path means: itself, or the one that its `model_index.json` lies in. */
export function modelFolderAt(path: AbsolutePath): AbsolutePath | undefined {
  if (basename(path) === 'model_index.json') return dirname(path) as AbsolutePath;
  const isModel = isFolder(path) && [...PARTS, 'model_index.json'].some((name) => existsSync(join(path, name)));
  return isModel ? path : undefined;
}

/** All files that make an SDXL. Throws `BrokenFolder`. */
export function wholeModel(folder: AbsolutePath): BaseFiles {
  refuseOtherModels(folder);
  const weights = PARTS.map((part) => [part, weightsOf(folder, part)] as const);
  const missing = weights.filter(([, paths]) => paths.length === 0).map(([part]) => `"${part}"`);
  if (missing.length > 0) {
    throw new BrokenFolder(
      `"${folder}" lacks ${listedAll(missing)}, with .safetensors files in ${missing.length === 1 ? 'it' : 'them'}.`,
      'Fetch the whole model: lorac needs the UNet, both text encoders and the VAE.',
    );
  }
  const scheduler = pathIn(folder, 'scheduler', 'scheduler_config.json');
  return {
    ...Object.fromEntries(weights.flatMap(([part, paths]) => inRoles(part, paths))),
    ...(existsSync(scheduler) && { 'checkpoint.scheduler': scheduler }),
  };
}

/** As many of the parts that LoRAs adapt as there are. Throws `BrokenFolder`. */
export function adaptedParts(folder: AbsolutePath): BaseFiles {
  return Object.fromEntries(ADAPTED.flatMap((part) => inRoles(part, weightsOf(folder, part))));
}

/** Of the files of a base those that LoRAs adapt: what has no say in the numbers of their weights is left out. */
export function adaptedFiles(files: BaseFiles): BaseFiles {
  const isAdapted = (role: string) => role === 'checkpoint' || ADAPTED.some((part) => isRoleOf(part, role));
  return Object.fromEntries(Object.entries(files).filter(([role]) => isAdapted(role)));
}

export function isRoleOf(part: Part, role: string): boolean {
  return role === `checkpoint.${part}` || new RegExp(`^checkpoint\\.${part}\\.\\d+$`).test(role);
}

function inRoles(part: Part, paths: readonly AbsolutePath[]): [string, AbsolutePath][] {
  const role = `checkpoint.${part}`;
  return paths.map((path, index) => [index === 0 ? role : `${role}.${index + 1}`, path]);
}

/** Told by what lies in the folder, so that nobody fetches what is missing of a model that cannot be used. */
function refuseOtherModels(folder: AbsolutePath): void {
  const has = (part: string) => isFolder(join(folder, part));
  const refuse = (what: string, hint: string) => {
    throw new BrokenFolder(`"${folder}" is ${what}.`, hint);
  };
  if (has('transformer') || has('text_encoder_3') || has('prior')) {
    refuse('a model of another family, and SDXL is needed', 'Name an SDXL model, such as Pony Diffusion V6 XL.');
  }
  if (!has('unet')) return;
  if (has('text_encoder_2') && !has('text_encoder')) {
    refuse(
      'an SDXL refiner, and the base model is needed',
      'The refiner has another shape; LoRAs are made for the base model.',
    );
  }
  if (has('text_encoder') && !has('text_encoder_2')) {
    refuse(
      'a Stable Diffusion 1 or 2 model: it has one text encoder, and SDXL has two',
      'Name an SDXL model, such as Pony Diffusion V6 XL.',
    );
  }
}

/**
 * One variant of a part's weights: the plain one before fp16, and these before others; of one that is there twice, what is
 * in fewer files. All shards of it; [] for none.
 */
function weightsOf(folder: AbsolutePath, part: Part): readonly AbsolutePath[] {
  const inside = join(folder, part);
  if (!isFolder(inside)) return [];
  const names = readdirSync(inside).sort();
  const series = Map.groupBy(names.flatMap(readShard), ({ name }) => name.replace(/-\d+-of-/, '-of-'));
  const [shards = []] = [...series.values()].sort(([a], [b]) => order(a as Shard, b as Shard));
  const [{ of = 1 } = {}] = shards;
  if (shards.length > 0 && shards.length !== of) {
    throw new BrokenFolder(`"${inside}" has ${shards.length} of ${of} parts of its weights.`, 'Fetch the others.');
  }
  const pickles = names.filter((name) => /\.(?:bin|pt|pth|ckpt)$/.test(name));
  if (shards.length === 0 && pickles.length > 0) {
    throw new BrokenFolder(
      `"${inside}" has its weights as a pickle ("${pickles[0]}"), and loading one runs code of whoever made it.`,
      'Fetch the .safetensors version of the model, or convert it with a tool that you trust.',
    );
  }
  return shards.map(({ name }) => pathIn(folder, part, name));
}

function order(a: Shard, b: Shard): number {
  const place = ({ variant }: Shard) => (variant === '' ? 0 : variant === 'fp16' ? 1 : 2);
  return place(a) - place(b) || a.of - b.of || (a.name < b.name ? -1 : 1);
}

interface Shard {
  readonly name: string;
  readonly variant: string;
  readonly of: number;
}

/** `model.safetensors`, `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors`, `model-00001-of-00002.fp16.safetensors` */
function readShard(name: string): Shard[] {
  const parts = /^(?:model|diffusion_pytorch_model)((?:[.-][\w-]+)*)\.safetensors$/.exec(name);
  if (!parts) return [];
  const [, rest = ''] = parts;
  const [range, of = '1'] = /-\d+-of-(\d+)/.exec(rest) ?? [];
  const variant = (range === undefined ? rest : rest.replace(range, '')).replace(/^\./, '');
  return [{ name, variant, of: Number(of) }];
}

function listedAll(names: readonly string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
