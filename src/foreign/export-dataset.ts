// Datasets as flags, where folders count, and else as the dataset configuration that sd-scripts wants for folders of
// any name.

import { isDeepStrictEqual } from 'node:util';
import { stringify } from 'smol-toml';
import type { AttributesOf, BlockOf, ProgramPath } from '../parser/model.ts';
import { addFlag, type CommandDraft } from './command-draft.ts';

type Dataset = AttributesOf<'dataset'>;
type Options = { readonly [name: string]: string | number | boolean };

export interface ExportedImages {
  /** The text of a dataset configuration, where one is needed. */
  readonly toml: string | undefined;
}

export interface ImagesToExport {
  readonly learned: BlockOf<'dataset'>;
  readonly kept: BlockOf<'dataset'> | undefined;
  /** Where a path of the program is. */
  readonly at: (path: ProgramPath) => string;
}

export function exportImages(draft: CommandDraft, { learned, kept, at }: ImagesToExport): ExportedImages {
  const blocks = [learned, ...(kept === undefined ? [] : [kept])];
  for (const block of blocks) noteMissingCaptions(draft, block);
  for (const block of blocks) noteMissingMasks(draft, block);
  if (blocks.some(({ attributes }) => attributes.masks !== undefined)) addFlag(draft, 'masked_loss');
  const isCounted = blocks.map(({ attributes }) => attributes.folders === 'kohya' && 'text' in attributes.images);
  if (isCounted.every(Boolean)) {
    addFlag(draft, 'train_data_dir', at(learned.attributes.images as ProgramPath));
    if (kept !== undefined) addFlag(draft, 'reg_data_dir', at(kept.attributes.images as ProgramPath));
    for (const [name, value] of Object.entries({
      ...shapesOf(learned.attributes),
      ...captionsOf(learned.attributes),
      ...masksOf(learned.attributes, at),
    })) {
      if (value === true) addFlag(draft, name);
      else if (value !== false) addFlag(draft, name, value);
    }
    if (kept !== undefined && !isDeepStrictEqual(withoutImages(kept.attributes), withoutImages(learned.attributes))) {
      draft.notes.push(
        `The options of the dataset "${kept.name}" are those of "${learned.name}": sd-scripts has one set of flags for both.`,
      );
    }
    return { toml: undefined };
  }
  const datasets = blocks.map((block) => datasetOf(draft, block, { at, isKept: block === kept }));
  return { toml: stringify({ datasets }) };
}

const withoutImages = ({ images: _, ...rest }: Dataset) => rest;

function datasetOf(
  draft: CommandDraft,
  { attributes, name }: BlockOf<'dataset'>,
  { at, isKept }: { readonly at: ImagesToExport['at']; readonly isKept: boolean },
) {
  if (attributes.folders === 'kohya')
    draft.notes.push(`Folders of the dataset "${name}": write a subset for each of them, with its num_repeats.`);
  const paths = [attributes.images].flat();
  const subsets = paths.map((path) => ({
    image_dir: at({ ...path, text: folderOf(draft, path.text) }),
    num_repeats: attributes.repeats,
    ...(isKept && { is_reg: true }),
    ...captionsOf(attributes),
    ...masksOf(attributes, at),
  }));
  const { resolution, ...buckets } = shapesOf(attributes);
  return { resolution: String(resolution).split(',').map(Number), ...buckets, subsets };
}

/** sd-scripts reads the images right in a folder, and knows no patterns. */
function folderOf(draft: CommandDraft, path: string): string {
  const [, folder] = /^(.*?)[\\/]\*(?:\.\{?[\w,]+\}?)?$/.exec(path) ?? [];
  if (folder !== undefined && !/[*?{}[\]]/.test(folder)) return folder;
  const deep = /^(.*?)[\\/]\*\*[\\/]/.exec(path)?.[1];
  draft.notes.push(`images = "${path}": sd-scripts reads the images right in a folder, and none below it.`);
  return deep ?? path;
}

/** Where min, max and resolution are one square, everything is cropped to it, as sd-scripts does without buckets. */
function shapesOf({ resolution: { width, height }, bucket }: Dataset): Options {
  const resolution = `${width},${height}`;
  if (width === height && bucket.min === width && bucket.max === width) return { resolution };
  return {
    resolution,
    enable_bucket: true,
    min_bucket_reso: bucket.min,
    max_bucket_reso: bucket.max,
    bucket_reso_steps: bucket.step,
    ...(!bucket.upscale && { bucket_no_upscale: true }),
  };
}

function captionsOf(attributes: Dataset): Options {
  const given: { readonly [name: string]: string | number | boolean | undefined } = {
    caption_extension: attributes.caption_extension,
    caption_prefix: attributes.caption_prefix,
    caption_suffix: attributes.caption_suffix,
    caption_dropout_rate: attributes.caption_dropout_rate,
    caption_dropout_every_n_epochs: attributes.caption_dropout_every_n_epochs,
    enable_wildcard: attributes.wildcards,
    shuffle_caption: attributes.shuffle_caption,
    caption_separator: attributes.caption_separator === ',' ? undefined : attributes.caption_separator,
    keep_tokens: attributes.keep_tokens,
    keep_tokens_separator: attributes.keep_tokens_separator,
    token_warmup_step: attributes.token_warmup_step,
    token_warmup_min: attributes.token_warmup_min === 1 ? undefined : attributes.token_warmup_min,
    caption_tag_dropout_rate: attributes.caption_tag_dropout_rate,
    secondary_separator: attributes.secondary_separator,
    flip_aug: attributes.flip_aug,
  };
  const said = Object.entries(given).filter(([, value]) => value !== undefined && value !== false && value !== 0);
  return Object.fromEntries(said) as Options;
}

function masksOf({ alpha_mask, masks }: Dataset, at: ImagesToExport['at']): Options {
  return { ...(alpha_mask && { alpha_mask }), ...(masks && { conditioning_data_dir: at(masks) }) };
}

function noteMissingMasks(draft: CommandDraft, { name, attributes }: BlockOf<'dataset'>): void {
  if (attributes.masks === undefined) return;
  const theirs = 'sd-scripts looks for each under the name of its image alone, in the very size of the image';
  const whole = attributes.mask_missing === 'whole' ? ', and refuses images without one' : '';
  draft.notes.push(`masks of "${name}": ${theirs}${whole}.`);
}

function noteMissingCaptions(draft: CommandDraft, { name, attributes }: BlockOf<'dataset'>): void {
  const theirs = attributes.folders === 'kohya' ? 'folder' : 'empty';
  if (attributes.caption_missing === theirs) return;
  draft.notes.push(
    `caption_missing of "${name}": sd-scripts takes ${theirs === 'folder' ? 'the words of the folder' : 'an empty text'} without a word.`,
  );
}
