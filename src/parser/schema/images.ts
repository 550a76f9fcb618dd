// The rows of the schema table for the pixels of training images: how a file becomes the picture that is encoded, and
// which places of it count.

import { boolean, either, number, optional, preset, record, text, words } from './types.ts';

export const pixels = {
  exif: preset(
    words('apply', 'ignore'),
    'apply',
    'Whether pictures are turned as their EXIF says, or taken as they are stored. ignore: as in sd-scripts.',
    { synonyms: ['exif_orientation', 'exif_transpose', 'orientation'] },
  ),
  transparency: preset(
    either(words('white', 'black', 'ignore'), text('color')),
    'white',
    'What shows through transparent pixels: white, black, a color such as "#8040ff", or with ignore the color that is stored under them, as in sd-scripts.',
    { synonyms: ['alpha', 'background', 'background_color', 'alpha_color'] },
  ),
  resize_filter: preset(
    words('lanczos', 'area'),
    'lanczos',
    'How pictures are scaled. area: those that become smaller by the mean of what lies below each pixel, as in sd-scripts, and others by lanczos.',
    { synonyms: ['resize_interpolation', 'interpolation', 'resample', 'resampling'] },
  ),
};

export const masks = {
  alpha_mask: preset(
    boolean(),
    false,
    'Whether the alpha of a picture says how much each place of it counts: what is transparent is not learned.',
    { synonyms: ['use_alpha_mask', 'alpha_as_mask'] },
  ),
  masks: optional(
    text('path'),
    'A folder with a mask for each image, a picture of the same name and shape: what is white there is learned, what is black is not.',
    { synonyms: ['conditioning_data_dir', 'mask_dir', 'mask_path', 'masks_dir'] },
  ),
  mask_missing: preset(
    words('error', 'whole'),
    'error',
    'Of an image without a mask: an error, or the whole image counts.',
    { synonyms: ['missing_mask', 'missing_masks'] },
  ),
};

/** How masks count in the loss of a training. */
export const maskedLoss = record({
  unmasked_weight: preset(number({ min: 0, max: 1 }), 0, 'No place counts less than this, whatever the mask says.', {
    synonyms: ['unmasked_area_weight', 'mask_min_value'],
  }),
  normalize: preset(
    boolean(),
    false,
    'Whether the places of an image count 1 on average. Without it, as in sd-scripts, a small mask means a small loss, and its image is learned the less.',
    { synonyms: ['normalize_masked_area_loss', 'normalized'] },
  ),
});
