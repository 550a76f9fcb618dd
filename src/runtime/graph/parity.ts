// `parity = sd_scripts`: what reproduces sd-scripts where we do otherwise, but for what is written.

import { parseColor, type Rgb } from '../../parser/color.ts';
import type { BlockOf, CheckedBlock } from '../../parser/model.ts';
import type { BaseFiles } from './model-folder.ts';

type Training = BlockOf<'train'>;
type Word = 'accumulation' | 'text_projection' | 'crop_conditioning' | 'latents';

/** The settings of a training that parity has a say in, as they finally are. */
export function paritySettings({ attributes, attributeSpans: written }: Training, base: BaseFiles) {
  const { parity, noise } = attributes;
  const pick = <Name extends Word>(name: Name, theirs: Training['attributes'][Name]) =>
    parity === 'sd_scripts' && written[name] === undefined ? theirs : attributes[name];
  const theirAxes = parity === 'sd_scripts' ? 'batch' : 'image';
  return {
    accumulation: pick('accumulation', 'sd_scripts'),
    // Of a diffusers folder sd-scripts reads it as it is meant.
    text_projection: pick('text_projection', base.checkpoint === undefined ? 'true' : 'transposed'),
    crop_conditioning: pick('crop_conditioning', 'sd_scripts'),
    latents: pick('latents', 'frozen'),
    noise: noise.kind === 'multires' ? { ...noise, std_axes: noise.std_axes ?? theirAxes } : noise,
  };
}

/** How files become pictures. */
export interface PixelSettings {
  readonly exif: 'apply' | 'ignore';
  /** What shows through transparent pixels; `ignore`: the color that is stored under them. */
  readonly transparency: Rgb | 'ignore';
  readonly resize_filter: 'lanczos' | 'area';
}

/** How a training reads the pictures of a dataset. */
export function pixelSettings({ attributes: { parity } }: Training, dataset: BlockOf<'dataset'>): PixelSettings {
  const { attributes, attributeSpans: written } = dataset;
  const pick = <Name extends keyof PixelSettings>(name: Name, theirs: (typeof attributes)[Name]) =>
    parity === 'sd_scripts' && written[name] === undefined ? theirs : attributes[name];
  const color = pick('transparency', 'ignore');
  return {
    exif: pick('exif', 'ignore'),
    transparency: color === 'ignore' ? color : (parseColor(color) ?? [255, 255, 255]),
    resize_filter: pick('resize_filter', 'area'),
  };
}

/** How a dataset's pictures are read: by each training that has it, or as it says where there is none. */
export function readingsOf(
  dataset: BlockOf<'dataset'>,
  blocks: readonly CheckedBlock[],
): readonly Pick<PixelSettings, 'exif'>[] {
  const trainings = blocks.filter((one) => one.kind === 'train');
  const using = trainings.filter(({ attributes: { data, regularization, validation } }) =>
    [data, regularization, validation?.data].some((reference) => reference?.block === dataset.name),
  );
  return using.length === 0 ? [dataset.attributes] : using.map((training) => pixelSettings(training, dataset));
}
