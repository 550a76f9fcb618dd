// `parity = sd_scripts`: what reproduces sd-scripts where we do otherwise, but for what is written.

import type { BlockOf } from '../../parser/model.ts';

type Training = BlockOf<'train'>;

/** The settings of a training that parity has a say in, as they finally are. */
export function paritySettings({ attributes, attributeSpans: written }: Training) {
  const { parity, noise } = attributes;
  const pick = <Name extends 'accumulation' | 'text_projection'>(name: Name, theirs: Training['attributes'][Name]) =>
    parity === 'sd_scripts' && written[name] === undefined ? theirs : attributes[name];
  const theirAxes = parity === 'sd_scripts' ? 'batch' : 'image';
  return {
    accumulation: pick('accumulation', 'sd_scripts'),
    text_projection: pick('text_projection', 'transposed'),
    noise: noise.kind === 'multires' ? { ...noise, std_axes: noise.std_axes ?? theirAxes } : noise,
  };
}
