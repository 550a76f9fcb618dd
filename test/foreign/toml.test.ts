// The TOML files of sd-scripts.

import { expect, test } from 'vitest';
import { blockIn, command, imported } from './foreign.ts';

const dataset = `
[general]
shuffle_caption = true
caption_extension = ".txt"
keep_tokens = 1

[[datasets]]
resolution = [768, 1024]
batch_size = 4
enable_bucket = true
max_bucket_reso = 2048
keep_tokens = 2

  [[datasets.subsets]]
  image_dir = "a/fox"
  num_repeats = 5
  keep_tokens = 3

  [[datasets.subsets]]
  image_dir = "a/cat"
  num_repeats = 5
  keep_tokens = 3
`;

test('of an option, the word of the subset goes first, then those of its dataset, of [general] and of the command', () => {
  const files = { readText: (path: string) => (path === 'd.toml' ? dataset : undefined) };
  const flags = '--dataset_config d.toml --keep_tokens 9 --caption_prefix "a photo of" --caption_dropout_rate 0.1';
  const result = imported(command(flags), files);
  expect(blockIn(result, 'dataset').attributes).toMatchObject({
    images: [{ text: 'a/fox/*' }, { text: 'a/cat/*' }],
    keep_tokens: 3,
    shuffle_caption: true,
    caption_extension: '.txt',
    caption_prefix: 'a photo of',
    caption_dropout_rate: 0.1,
    caption_missing: 'empty',
    repeats: 5,
    resolution: { width: 768, height: 1024 },
  });
  expect(blockIn(result, 'train').attributes.batch_size).toBe(4);
  expect(result.lost).toEqual([]);
});

test('a dataset configuration by itself is a dataset, and a training with the defaults of sd-scripts', () => {
  const result = imported(dataset);
  expect(blockIn(result, 'dataset').attributes.keep_tokens).toBe(3);
  expect(result.text).toContain('# Imported from a dataset configuration of sd-scripts');
});

test('folders with different options are datasets of their own, of which the first is learned, and that is said', () => {
  const result = imported(
    dataset.replace('num_repeats = 5\n  keep_tokens = 3\n\n', 'num_repeats = 2\n  keep_tokens = 3\n\n'),
  );
  expect(blockIn(result, 'dataset', 'pictures').attributes).toMatchObject({ images: { text: 'a/fox/*' }, repeats: 2 });
  expect(blockIn(result, 'dataset', 'pictures_2').attributes).toMatchObject({
    images: { text: 'a/cat/*' },
    repeats: 5,
  });
  expect(result.lost).toEqual(['datasets']);
});

test('folders of regularization images are a dataset beside the other', () => {
  const result = imported(`${dataset}\n  is_reg = true`);
  expect(blockIn(result, 'train').attributes.regularization?.block).toBe('known');
  expect(blockIn(result, 'dataset', 'known').attributes).toMatchObject({ images: { text: 'a/cat/*' } });
});

const config = `
[model_arguments]
pretrained_model_name_or_path = "/m/pony.safetensors"
[training]
max_train_steps = 500
network_args = ["algo=locon", "conv_dim=4"]
network_module = "lycoris.kohya"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
optimizer_type = "AdamW8bit"
flip_aug = true
train_data_dir = 'C:\\pics\\fox'
resolution = "1024,1024"
`;

test('a configuration file has flags by their names, in sections that mean nothing', () => {
  const result = imported(config);
  expect(blockIn(result, 'checkpoint').attributes.path.text).toBe('/m/pony.safetensors');
  expect(blockIn(result, 'dataset').attributes).toMatchObject({ images: { text: 'C:\\pics\\fox' }, flip_aug: true });
  expect(blockIn(result, 'train').attributes).toMatchObject({
    steps: 500,
    network: { kind: 'locon', conv_dim: 4 },
    optimizer: { kind: 'AdamW8bit', weight_decay: 0.1, betas: [0.9, 0.99] },
  });
});

test('the command line goes before the configuration file', () => {
  const files = { readText: (path: string) => (path === 'c.toml' ? config : undefined) };
  const result = imported('accelerate launch sdxl_train_network.py --config_file c --max_train_steps 9', files);
  expect(blockIn(result, 'train').attributes.steps).toBe(9);
  expect(blockIn(result, 'checkpoint').attributes.path.text).toBe('/m/pony.safetensors');
});

test('a file that is named and not there is said to be missing', () => {
  const result = imported(command('--dataset_config nowhere.toml'));
  expect(result.lost).toEqual(['dataset_config']);
});

test('a key stays in the file that it came from: programs are passed on', () => {
  const { text } = imported(
    'output_name = "fox"\nkeep_tokens = 3\nhuggingface_token = "hf_ours"\nwandb_api_key = "w_ours"\n',
  );
  expect(text).not.toContain('_ours');
  expect(text).toContain('#   huggingface_token = …: ');
  expect(text).toContain('keep_tokens       = 3');
});
