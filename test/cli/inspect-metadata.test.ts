// What trainers store as JSON is told in words; what is not what its key promises is shown as it is.

import { expect, test } from 'vitest';
import { metadataValue } from '../../src/cli/inspect-metadata.ts';

test.each<[string, unknown, string]>([
  ['ss_training_started_at', '1700000000.5', '1700000000.5 (2023-11-14 22:13 UTC)'],
  [
    'ss_network_args',
    { algo: 'locon', preset: 'full', dropout: null, conv_dim: '256' },
    'algo=locon, preset=full, conv_dim=256',
  ],
  [
    'ss_tag_frequency',
    { '10_hero': { hero: 24, ' sky': 3 }, '1_more': { hero: 2, cat: 9 } },
    '3 tags: hero 26, cat 9, sky 3',
  ],
  [
    'ss_tag_frequency',
    { a: Object.fromEntries(Array.from('abcdefghij', (tag, i) => [tag, 20 - i])) },
    '10 tags: a 20, b 19, c 18, d 17, e 16, f 15, g 14, h 13 and 2 more',
  ],
  ['ss_dataset_dirs', { '10_hero': { n_repeats: 10, img_count: 24 } }, '10_hero: 24 images × 10'],
  [
    'ss_bucket_info',
    {
      buckets: { 0: { resolution: [832, 1216], count: 3 }, 1: { resolution: [1024, 1024], count: 9 } },
      mean_img_ar_error: 0,
    },
    '2 buckets: 1024x1024 9, 832x1216 3',
  ],
  [
    'lorac.history',
    [
      { stage: 'resize', recipe: { thr: -3.55 } },
      { stage: 'chop', weights: { OUT01: 1, TE1: 0.5 } },
    ],
    'resize thr=-3.55; then chop OUT01=1, TE1=0.5',
  ],
  ['ss_network_args', 'None', 'None'],
  ['ss_tag_frequency', '[1,2]', '[1,2]'],
  ['ss_tag_frequency', { a: 1 }, '{"a":1}'],
  ['ss_dataset_dirs', { a: { n_repeats: 'x' } }, '{"a":{"n_repeats":"x"}}'],
  ['ss_bucket_info', 'null', 'null'],
  ['ss_training_comment', { algo: 'x' }, '{"algo":"x"}'],
])('%s of %o', (key, value, told) => {
  expect(metadataValue(key, typeof value === 'string' ? value : JSON.stringify(value))).toBe(told);
});

test('what is long is cut, with its length, and what is far too long is not parsed', () => {
  expect(metadataValue('ss_training_comment', 'x'.repeat(500))).toMatch(/^x{99}… \(500 characters\)$/);
  const huge = JSON.stringify({ a: Object.fromEntries(Array.from({ length: 400_000 }, (_, i) => [`tag${i}`, i])) });
  expect(metadataValue('ss_tag_frequency', huge)).toMatch(/^\{"a":\{"tag0":0.*… \(\d{7} characters\)$/);
  const many = JSON.stringify({ a: { ['t'.repeat(5000)]: 1 } });
  expect(metadataValue('ss_tag_frequency', many)).toHaveLength(200);
});
