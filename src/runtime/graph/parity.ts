// `parity = sd_scripts`: what reproduces sd-scripts where we do otherwise, but for what is written.

import type { BlockOf } from '../../parser/model.ts';

type Training = BlockOf<'train'>;
type Word = 'accumulation' | 'text_projection' | 'crop_conditioning' | 'latents';

/** The settings of a training that parity has a say in, as they finally are. */
export function paritySettings({ attributes, attributeSpans: written }: Training) {
  const { parity, noise } = attributes;
  const pick = <Name extends Word>(name: Name, theirs: Training['attributes'][Name]) =>
    parity === 'sd_scripts' && written[name] === undefined ? theirs : attributes[name];
  const theirAxes = parity === 'sd_scripts' ? 'batch' : 'image';
  return {
    accumulation: pick('accumulation', 'sd_scripts'),
    text_projection: pick('text_projection', 'transposed'),
    crop_conditioning: pick('crop_conditioning', 'sd_scripts'),
    latents: pick('latents', 'frozen'),
    noise: noise.kind === 'multires' ? { ...noise, std_axes: noise.std_axes ?? theirAxes } : noise,
  };
}
