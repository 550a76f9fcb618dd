// The rows of the schema table for datasets: images, their captions, and the sizes they are trained at.

import { captionFiles, captionsAtVisits } from './captions.ts';
import { masks, pixels } from './images.ts';
import { boolean, defaultsOf, either, integer, list, preset, record, required, size, text, words } from './types.ts';

export const bucket = record({
  min: preset(
    integer({ min: 64, max: 8192, multipleOf: 8, unit: 'px' }),
    256,
    'Shortest side of a bucket, in pixels.',
    {
      synonyms: ['min_bucket_reso', 'min_bucket_resolution'],
    },
  ),
  max: preset(
    integer({ min: 64, max: 8192, multipleOf: 8, unit: 'px' }),
    2048,
    'Longest side of a bucket, in pixels.',
    {
      synonyms: ['max_bucket_reso', 'max_bucket_resolution'],
    },
  ),
  step: preset(
    integer({ min: 32, max: 1024, multipleOf: 32, unit: 'px' }),
    32,
    'Sides of buckets are multiples of this.',
    {
      synonyms: ['bucket_reso_steps', 'bucket_step'],
    },
  ),
  upscale: preset(
    boolean(),
    true,
    'Enlarge small images to fill a bucket. false: an image keeps its size, cut down to whole steps, and only one above the resolution is made smaller; min and max mean nothing then.',
    { synonyms: ['bucket_no_upscale', 'no_upscale', 'allow_upscale'] },
  ),
  distance: preset(
    words('ratio', 'log_ratio'),
    'ratio',
    'Which bucket is the nearest. ratio: by the difference of width / height, as in sd-scripts, which has more room for portraits than for landscapes. log_ratio: by the difference of its logarithm, the same for both.',
    { synonyms: ['bucket_distance', 'ratio_distance', 'nearest'] },
  ),
});

export const dataset = {
  images: required(
    either(text('path'), list(text('path'))),
    'A folder (every png, jpg, jpeg and webp below it), a pattern such as "cats/**/*.png", or a list of these.',
    {
      synonyms: ['train_data_dir', 'image_dir', 'folder', 'folder_path', 'path', 'dir', 'instance_data_dir', 'files'],
    },
  ),
  ...captionFiles,
  ...captionsAtVisits,
  flip_aug: preset(boolean(), true, 'Use each image mirrored as well.', {
    synonyms: ['flip', 'random_flip', 'flip_x', 'flip_augmentation', 'mirror'],
  }),
  repeats: preset(integer({ min: 1, max: 100_000 }), 1, 'How often each image is used per epoch.', {
    synonyms: ['dataset_repeats', 'num_repeats', 'repeat'],
  }),
  resolution: preset(
    size({ min: 64, max: 4096 }),
    { width: 1024, height: 1024 },
    'Images are scaled to buckets of about this area.',
    { synonyms: ['res', 'train_resolution', 'image_size'] },
  ),
  ...pixels,
  ...masks,
  bucket: preset(bucket, defaultsOf(bucket.fields), 'Which shapes images may be trained in.', {
    synonyms: ['buckets', 'bucketing', 'aspect_ratio_bucketing'],
  }),
};
