// The rows of the schema table for the pixels of training images: how a file becomes the picture that is encoded.

import { either, preset, text, words } from './schema-types.ts';

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
