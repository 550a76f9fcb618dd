// Commands of sd-scripts as people paste them, and what each flag becomes.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { importText } from '../../src/foreign/import.ts';
import { nowhere } from '../../src/foreign/recipe.ts';
import { readShell } from '../../src/foreign/shell-words.ts';
import { blockIn, command, datasetOf, imported, lostOf, trainOf } from './foreign.ts';

const words = (text: string) => readShell(text).commands;

test.each([
  ['blanks and quotes', `a  "b c" 'd "e"' f"g h"i ""`, ['a', 'b c', 'd "e"', 'fg hi', '']],
  ['a backslash, which makes the next character plain', String.raw`a\ b "c\"d" '\n'`, ['a b', 'c"d', String.raw`\n`]],
  ['a line that goes on, as shells have it', 'a \\\n  b \\ \n c', ['a', 'b', 'c']],
  [
    'a line that goes on, as cmd has it',
    'a ^\r\n  --dir "C:\\pics\\fox" ^\r\n c',
    ['a', '--dir', 'C:\\pics\\fox', 'c'],
  ],
  ['a line that goes on, as PowerShell has it', 'a `\n  "C:\\new folder\\" `\n c', ['a', 'C:\\new folder\\', 'c']],
  ['a comment between lines', 'a \\\n # --b \\\n c', ['a', 'c']],
  ['a # within a word', 'a b#c', ['a', 'b#c']],
])('%s', (_, text, wanted) => {
  expect(words(text)).toEqual([wanted]);
});

test('variables that the text sets are known, whichever shell set them', () => {
  expect(words('MODEL=/m.safetensors\nexport D="a b"\nrun "$MODEL" ${D}/x $HOME_OF')).toEqual([
    ['run', '/m.safetensors', 'a b/x', '\uE000HOME_OF\uE001'],
  ]);
  expect(words('set MODEL=C:\\m\nrun %MODEL%\\a ^\n "%MODEL%"')).toEqual([['run', 'C:\\m\\a', 'C:\\m']]);
  expect(words('$model = "C:\\m"\nrun $model `\n $env:X')).toEqual([['run', 'C:\\m', '\uE000X\uE001']]);
  expect(words('run ${A:-fallback}')).toEqual([['run', 'fallback']]);
});

test('a file that the text writes itself is not a command', () => {
  const { commands, files } = readShell(
    "cat > 'a b.toml' <<'END'\n[general]\nx = 1\nEND\nrun --dataset_config 'a b.toml'\n",
  );
  expect(commands).toEqual([['run', '--dataset_config', 'a b.toml']]);
  expect(files.get('a b.toml')).toBe('[general]\nx = 1\n');
});

test('a quote that is never closed is pointed at', () => {
  const result = importText('accelerate launch sdxl_train_network.py \\\n --output_dir="/a', nowhere);
  expect(result).toMatchObject({ problem: 'A quote that opens on line 2 is never closed.' });
});

test('a variable that was not pasted becomes a param where text stands, and a comment where a number should', () => {
  const text = command('--output_dir=$OUT/x --max_train_steps $STEPS --unet_lr 1e-3');
  const result = importText(text, nowhere);
  if ('problem' in result) throw new Error(result.problem);
  expect(result.program).toContain('param OUT');
  expect(result.program).toContain('save "${OUT}/x/lora.safetensors"');
  expect(result.draft.lost).toContainEqual({
    name: 'max_train_steps',
    value: '\uE000STEPS\uE001',
    reason: 'What STEPS stands for was not pasted. Write a number in its place.',
  });
  expect(result.program).toContain('#   max_train_steps = $STEPS: What STEPS');
});

test('other scripts than those for LoRAs of SDXL are told apart', () => {
  expect(importText('python flux_train_network.py --x 1', nowhere)).toMatchObject({
    problem: 'lorac trains LoRAs of SDXL, and flux_train_network.py trains something else.',
  });
  expect(imported(command('').replace('sdxl_', '')).lost).toContain('train_network.py');
  expect(importText('python make_captions.py --x 1', nowhere)).toMatchObject({
    problem: 'There is no command of sd-scripts in this text.',
  });
});

test('of a flag that stands there twice the last one counts, and dashes are underscores', () => {
  expect(trainOf('--max_train_steps 5 --max-train-steps=7').steps).toBe(7);
});

/** Flags that say nothing by themselves need company. */
const values: { readonly [flag: string]: string } = {
  lr_scheduler: 'cosine',
  loss_type: 'l1',
  optimizer_type: 'Lion',
  resolution: '512,768',
  mixed_precision: 'bf16',
  network_module: 'lycoris.kohya',
  network_args: 'algo=loha',
  optimizer_args: 'weight_decay=0.1',
  lr_scheduler_args: 'num_cycles=0.3',
  max_token_length: '150',
  text_encoder_lr: '1e-5',
  validation_split: '0.1',
  max_timestep: '900',
  min_timestep: '10',
  caption_dropout_rate: '0.1',
  caption_tag_dropout_rate: '0.1',
  network_dropout: '0.1',
  bucket_reso_steps: '32',
  min_bucket_reso: '512',
  max_bucket_reso: '1536',
  huber_schedule: 'snr',
  save_precision: 'bf16',
  sample_sampler: 'euler_a',
  base_weights: 'a.safetensors',
};

const flags = readFileSync(new URL('../fixtures/foreign/sd-scripts-flags.txt', import.meta.url), 'utf8')
  .trim()
  .split(/\s+/);

test.each(flags)(
  'the flag --%s of sd-scripts is carried over, or said to be needless or missing, with a reason',
  (flag) => {
    const { text } = imported(command(`--${flag} ${values[flag] ?? 1}`));
    expect(text).not.toContain('lorac does not know this setting');
  },
);

test('a flag that nobody knows stays as a comment, and none of its text gets out of it', () => {
  const { text, lost } = imported(command(`--new_flag 'a\n} save "x" { from = raw }'`));
  expect(lost).toEqual(['new_flag']);
  expect(text).toContain('#   new_flag = a } save "x" { from = raw }: lorac does not know this setting.');
});

test('what sd-scripts takes without a word is not what lorac takes, and so is written', () => {
  expect(trainOf('')).toMatchObject({
    network: { kind: 'locon', preset: 'attn-mlp', dim: 4, alpha: 1 },
    optimizer: { kind: 'AdamW' },
    unet_lr: 2e-6,
    text_encoder_lr: 2e-6,
    lr_scheduler: { kind: 'constant' },
    noise: { kind: 'plain' },
    steps: 1600,
    batch_size: 1,
    gradient_accumulation_steps: 1,
    mixed_precision: 'fp32',
    save_precision: 'fp32',
    save_every: 1600,
  });
  expect(datasetOf('')).toMatchObject({
    shuffle_caption: false,
    flip_aug: false,
    caption_extension: '.caption',
    bucket: { min: 256, max: 2048, step: 64 },
  });
});

test('without buckets, sd-scripts crops to one shape', () => {
  const text = command('').replace('--enable_bucket', '');
  expect(blockIn(imported(text), 'dataset').attributes.bucket).toMatchObject({ min: 1024, max: 1024, step: 32 });
  expect(imported(text.replace('=1024', '=832,1216')).lost).toEqual(['enable_bucket']);
});

test('images that keep their size, a length of weights, and a LoRA to begin with have their places', () => {
  const written = imported(command('--bucket_no_upscale --scale_weight_norms 1 --network_weights old.safetensors'));
  expect(written.lost).toEqual([]);
  expect(blockIn(written, 'dataset').attributes.bucket).toMatchObject({ min: 256, max: 2048, upscale: false });
  expect(blockIn(written, 'train').attributes).toMatchObject({ scale_weight_norms: 1, init: { block: 'before' } });
  expect(blockIn(written, 'lora').attributes.path).toMatchObject({ text: 'old.safetensors' });
  const lycoris = '--scale_weight_norms 1 --network_module lycoris.kohya --network_args algo=loha';
  expect(imported(command(lycoris)).lost).toEqual(['scale_weight_norms']);
});

test('weights in 8 bits are those of all models, or of the UNet alone', () => {
  const stored = (flags: string) => trainOf(flags).fp8_base;
  expect([stored(''), stored('--fp8_base'), stored('--fp8_base_unet'), stored('--fp8_base --fp8_base_unet')]).toEqual([
    'off',
    'on',
    'unet',
    'unet',
  ]);
});

test('learning_rate stands in for the rate that is missing, and two text encoders may have two rates', () => {
  expect(trainOf('--learning_rate 1e-4')).toMatchObject({ unet_lr: 1e-4, text_encoder_lr: 1e-4, block_lr: {} });
  expect(trainOf('--learning_rate 1e-4 --unet_lr 2e-4')).toMatchObject({ unet_lr: 2e-4, text_encoder_lr: 1e-4 });
  expect(trainOf('--learning_rate 1e-4 --text_encoder_lr 2e-5 1e-5')).toMatchObject({
    text_encoder_lr: 2e-5,
    block_lr: { TE2: 0.5 },
  });
  expect(trainOf('--text_encoder_lr 0 1e-5')).toMatchObject({ text_encoder_lr: 1e-5, block_lr: { TE1: 0 } });
  const lycoris = '--network_module lycoris.kohya --text_encoder_lr 2e-5 1e-5';
  expect(trainOf(lycoris)).toMatchObject({ text_encoder_lr: 2e-5, block_lr: {} });
  expect(trainOf('--network_train_unet_only')).toMatchObject({ train_text_encoder: false, text_encoder_lr: 0 });
  expect(imported(command('--network_train_unet_only --text_encoder_lr 1e-5')).text).not.toContain('text_encoder_lr');
});

test('networks: convolutions are there when their rank is said, and always with LyCORIS', () => {
  expect(trainOf('--network_args conv_dim=8 conv_alpha=2').network).toMatchObject({
    preset: 'full',
    conv_dim: 8,
    conv_alpha: 2,
  });
  expect(trainOf('--network_module=lycoris.kohya --network_dim 16 --network_alpha 8').network).toMatchObject({
    kind: 'locon',
    preset: 'full',
    dim: 16,
    conv_dim: 16,
    conv_alpha: 8,
  });
  expect(
    trainOf('--network_module=lycoris.kohya --network_args algo=lokr factor=-1 decompose_both=True').network,
  ).toMatchObject({
    kind: 'lokr',
    factor: 'balanced',
    decompose_both: true,
  });
  expect(trainOf('--network_module=lycoris.kohya --network_args algo=locon dora_wd=True').network.kind).toBe('dora');
  expect(lostOf('--network_module=lycoris.kohya --network_args algo=ia3 use_scalar=True')).toEqual(['algo']);
  expect(trainOf('--network_module=lycoris.kohya --network_args algo=loha use_scalar=True').network).toMatchObject({
    kind: 'loha',
    use_scalar: true,
  });
});

test('network_dropout acts in networks.lora, and in LyCORIS only with bypass_mode', () => {
  expect(trainOf('--network_dropout 0.2').network).toMatchObject({ dropout: 0.2 });
  const lycoris = '--network_dropout 0.2 --network_module lycoris.kohya';
  expect(trainOf(lycoris).network).toMatchObject({ dropout: 0 });
  expect(lostOf(lycoris)).toEqual(['network_dropout']);
  expect(trainOf(`${lycoris} --network_args bypass_mode=True`).network).toMatchObject({ dropout: 0.2 });
});

test('ranks and rates by block', () => {
  const dims = Array.from({ length: 23 }, (_, at) => at).join(',');
  const { network, block_lr, loraplus_lr_ratio } = trainOf(
    `--network_args block_dims=${dims} mid_lr_weight=1,0.5,1 up_lr_weight=0,1,1,1,1,1,1,1,1 loraplus_lr_ratio=16`,
  );
  expect(network).toMatchObject({ dims: { IN00: 1, IN08: 9, MID00: 10, OUT00: 13, OUT08: 21 } });
  expect(block_lr).toEqual({ MID01: 0.5, OUT00: 0 });
  expect(loraplus_lr_ratio).toBe(16);
  const few = '--network_args mid_lr_weight=1,0.5,0.1 block_lr_zero_threshold=0.1';
  expect(trainOf(few).block_lr).toEqual({ MID01: 0.5, MID02: 0 });
  expect(lostOf('--network_args block_dims=1,2 down_lr_weight=sine')).toEqual(
    ['down_lr_weight', 'block_dims'].toSorted(),
  );
});

test('ranks and rates of single layers by regular expressions', () => {
  const dims =
    'network_reg_dims=.*attn2.to_k=4,input_blocks\\.4\\..*=16,.*in_layers[._]2=32,text_model.encoder.layers.1\\..*=0';
  const rates = 'network_reg_lrs=.*attn2.*=5e-5,.*self_attn.*=0';
  const written = `--network_module networks.loha --learning_rate 1e-4 --text_encoder_lr 2e-5 --network_args conv_dim=4 '${dims}' '${rates}'`;
  const { network, block_lr } = trainOf(written);
  expect(network).toMatchObject({
    kind: 'loha',
    dims: { '*attn2_to_k': 4, 'lora_unet_input_blocks_4_*': 16, 'lora_te?_text_model_encoder_layers_1_*': 0 },
    conv_dims: { 'lora_unet_input_blocks_4_*': 16, '*in_layers_2': 32 },
  });
  expect(block_lr).toEqual({ '*attn2*': 0.5, '*self_attn*': 0 });
  const lost =
    '--network_module networks.lokr --network_args "network_reg_dims=.*(attn1|attn2).*=4" network_reg_lrs=.*=1e-4';
  expect(lostOf(lost)).toEqual(['network_reg_dims']);
});

test('a rank of 0 for a block leaves its convolutions to conv_dim there, which is said here', () => {
  const dims = Array.from({ length: 23 }, (_, at) => (at === 1 ? 0 : 4)).join(',');
  expect(trainOf(`--network_args conv_dim=2 block_dims=${dims}`).network).toMatchObject({ conv_dims: { IN00: 2 } });
});

test('the base is shown first unless it is refused, and where nobody asked for it, that is said', () => {
  const shown = (text: string, around = {}) => {
    const result = imported(text, around);
    const { sample } = blockIn(result, 'train').attributes;
    return [sample?.at_first, result.text.includes('unless at_first = false')];
  };
  const sampling = '--sample_prompts p.txt --sample_every_n_steps 5';
  expect(shown(command(sampling))).toEqual([true, true]);
  expect(shown(command(`${sampling} --sample_at_first`))).toEqual([true, false]);
  const readText = () => 'sample_at_first = false';
  expect(shown(command(`${sampling} --config_file c`), { readText })).toEqual([false, false]);
});

test('only the last of the saved steps', () => {
  expect(trainOf('--save_every_n_steps 10 --save_last_n_steps 20').save_last_n_steps).toBe(20);
  expect(trainOf('--save_last_n_steps 20').save_last_n_steps).toBeUndefined();
  expect(lostOf('--save_every_n_epochs 2 --save_last_n_epochs 3')).toEqual(
    ['save_every_n_epochs', 'save_last_n_epochs'].toSorted(),
  );
});

test('optimizers by the names that sd-scripts knows, and any class by its path', () => {
  expect(
    trainOf('--optimizer_type adamw8bit --optimizer_args weight_decay=0.1 "betas=0.9,0.99"').optimizer,
  ).toMatchObject({
    kind: 'AdamW8bit',
    weight_decay: 0.1,
    betas: [0.9, 0.99],
  });
  expect(
    trainOf('--optimizer_type Prodigy --learning_rate 1 --optimizer_args decouple=True d_coef=2').optimizer,
  ).toMatchObject({
    kind: 'Prodigy',
    decouple_weight_decay: true,
    d_coef: 2,
  });
  expect(
    trainOf('--optimizer_type lora_worker.saveus.SAVEUS --optimizer_args "clip_lambda=\'step ** 0.5\'"').optimizer,
  ).toMatchObject({
    kind: 'SAVEUS',
    clip_lambda: { op: '**', left: 'step', right: 0.5 },
  });
  expect(
    trainOf('--optimizer_type pkg.mod.Opt --optimizer_args a=1 "b=(1, 2)" c=None d=\'"x"\'').optimizer,
  ).toMatchObject({
    kind: 'python',
    class: 'pkg.mod.Opt',
    args: { a: 1, b: [1, 2], c: null, d: 'x' },
  });
  expect(trainOf('--optimizer_type RAdam').optimizer).toMatchObject({ kind: 'python', class: 'torch.optim.RAdam' });
  expect(lostOf('--optimizer_type Adafactor --optimizer_args scale_parameter=False relative_step=False')).toEqual([]);
});

test('Adafactor finds its rates itself unless it is told not to', () => {
  const own = '--learning_rate 1e-4 --text_encoder_lr 0 --lr_scheduler cosine --optimizer_type AdaFactor';
  expect(trainOf(own)).toMatchObject({
    optimizer: { kind: 'Adafactor', scale_parameter: true },
    lr_scheduler: { kind: 'adafactor', warmup_init: false },
    unet_lr: 1,
    text_encoder_lr: 0,
  });
  const warm = `${own} --optimizer_args relative_step=False warmup_init=True scale_parameter=False`;
  expect(trainOf(warm)).toMatchObject({
    optimizer: { scale_parameter: false },
    lr_scheduler: { kind: 'adafactor', warmup_init: true },
  });
  expect(lostOf(warm)).toEqual([]);
  const off = trainOf(`${own} --optimizer_args relative_step=False`);
  expect(off).toMatchObject({ lr_scheduler: { kind: 'cosine' }, optimizer: { scale_parameter: true }, unet_lr: 1e-4 });
});

test('schedulers by their class', () => {
  const named =
    '--lr_scheduler_type OneCycleLR --lr_scheduler_args max_lr=1e-3 total_steps=80 "anneal_strategy=\'linear\'"';
  expect(trainOf(`--lr_scheduler cosine --lr_warmup_steps 10 ${named}`).lr_scheduler).toEqual({
    kind: 'python',
    class: 'torch.optim.lr_scheduler.OneCycleLR',
    args: { max_lr: 1e-3, total_steps: 80, anneal_strategy: 'linear' },
  });
  expect(trainOf('--lr_scheduler_type pkg.mod.Cycle').lr_scheduler).toEqual({ kind: 'python', class: 'pkg.mod.Cycle' });
  expect(lostOf('--lr_scheduler_type "a b"')).toEqual(['lr_scheduler_type']);
  expect(lostOf('--lr_scheduler_type a..b')).toEqual(['lr_scheduler_type']);
  expect(trainOf('--lr_scheduler linear --lr_scheduler_type=').lr_scheduler).toMatchObject({ kind: 'linear' });
});

test('rates that Prodigy was given are written, also where they are the defaults of others', () => {
  const rates = '--optimizer_type Prodigy --learning_rate 0.0003 --network_train_unet_only';
  expect(trainOf(rates)).toMatchObject({ unet_lr: 3e-4 });
});

test('schedulers read the arguments that sd-scripts gives them', () => {
  const scheduler = (flags: string) => trainOf(flags).lr_scheduler;
  expect(scheduler('--lr_scheduler cosine --lr_warmup_steps 100')).toMatchObject({ num_cycles: 0.5, warmup: 100 });
  expect(scheduler('--lr_scheduler cosine --lr_warmup_steps 10%')).toMatchObject({ warmup: 0.1 });
  expect(scheduler('--lr_scheduler cosine_with_restarts --lr_scheduler_num_cycles 3')).toMatchObject({ num_cycles: 3 });
  expect(
    scheduler('--lr_scheduler cosine_with_min_lr --lr_scheduler_num_cycles 1 --lr_scheduler_min_lr_ratio 0.2'),
  ).toMatchObject({
    num_cycles: 0.5,
    min_lr_ratio: 0.2,
  });
  expect(
    scheduler('--learning_rate 1e-3 --lr_scheduler polynomial --lr_scheduler_power 2 --lr_scheduler_args lr_end=1e-6'),
  ).toMatchObject({
    power: 2,
    lr_end: 1e-6,
  });
  expect(lostOf('--lr_scheduler cosine --lr_scheduler_num_cycles 3')).toEqual(['lr_scheduler_num_cycles']);
  expect(lostOf('--lr_scheduler rex')).toEqual(['lr_scheduler']);
});

test('epochs become steps where the images can be counted, and a comment where they cannot', () => {
  const text = command(
    '--max_train_epochs 10 --train_batch_size 4 --gradient_accumulation_steps 2 --save_every_n_epochs 2',
  );
  const { steps, save_every } = blockIn(imported(text, { countImages: () => 50 }), 'train').attributes;
  // ⌈⌈50 / 4⌉ / 2⌉ = 7 steps in an epoch.
  expect([steps, save_every]).toEqual([70, 14]);
  expect(imported(text).lost).toEqual(['max_train_epochs', 'save_every_n_epochs']);
});

test('a number out of range, and a word that is none of those there are, become comments and not a broken program', () => {
  expect(
    lostOf('--network_dim 0 --min_snr_gamma -3 --unet_lr -1 --save_every_n_steps x --max_token_length 80'),
  ).toEqual(expect.arrayContaining(['dim', 'min_snr_gamma', 'unet_lr', 'save_every_n_steps', 'max_token_length']));
});
