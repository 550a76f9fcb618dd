// Trainings as commands of sd-scripts, and back again.

import { execaSync } from 'execa';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { exportSdScripts } from '../../src/foreign/export-sd-scripts.ts';
import { compile } from '../../src/parser/check.ts';
import type { BlockOf } from '../../src/parser/model.ts';
import { blockIn, command, imported } from './foreign.ts';

function exported(text: string): string {
  const { program, diagnostics } = compile({ path: 'x.lora', text }, { params: new Map() });
  if (program === undefined) throw new Error(diagnostics.map(({ message }) => message).join('\n'));
  const train = program.blocks.find((block) => block.kind === 'train') as BlockOf<'train'>;
  return exportSdScripts({ program, train, at: ({ text }) => text });
}

/** What a program means, without where it says so. */
function meaning(text: string): unknown {
  const { program } = compile({ path: 'x.lora', text }, { params: new Map() });
  const blocks = program?.blocks.map(({ kind, name, attributes }) => ({ kind, name, attributes }));
  return JSON.parse(
    JSON.stringify(blocks, (key, value) => (key === 'span' || key === 'writtenIn' ? undefined : value)),
  );
}

const hero = `
checkpoint pony { path = "/m/pony it's.safetensors"  prediction = v }
dataset hero { images = ["/pics/fox", "/pics/ca t/*"]  repeats = 2  caption_prefix = "a $HOME \`photo\`"  keep_tokens = 1 }
dataset known { images = "/known/*"  shuffle_caption = false }
train raw {
  base = pony  data = hero  regularization = known
  network = locon { dim = 16  modules = ["lora_unet_*"] }
  optimizer = SAVEUS { clip_gradients = true  clip_lambda = step ** 0.5 }
  sample = { every = 5  prompts = "/p/prompts.txt" }
  on_non_finite = skip  seed = 7
}
resize small { from = raw }
save "/out/hero.safetensors" { from = raw }
`;

test('a training as a command', () => {
  expect(exported(hero)).toMatchSnapshot();
});

test('no path and no caption becomes shell syntax: bash reads every word as it was meant', () => {
  const text = hero.replace('/m/pony', '/m/$(touch x);pony"').replace('hero.safetensors', 'a b; rm -rf c.safetensors');
  const script = exported(text.replaceAll('"/m/$(touch x);pony"', String.raw`"/m/$(touch x);pony\"`));
  const shell = script.replace('accelerate launch', `accelerate() { printf '%s\\n' "$@"; }\naccelerate launch`);
  const { stdout } = execaSync('bash', ['-c', `cd "$(mktemp -d)" && ${'{'}\n${shell}\n${'}'} && ls`]);
  const words = stdout.split('\n');
  expect(words).toContain(`--pretrained_model_name_or_path=/m/$(touch x);pony" it's.safetensors`);
  expect(words).toContain('--output_name=a b; rm -rf c');
  expect(words).toContain("clip_lambda='step ** 0.5'");
  expect(words.at(-1)).toBe('raw-dataset.toml');
});

test('what sd-scripts cannot do is said before the command', () => {
  const script = exported(hero);
  for (const name of ['modules', 'on_non_finite = skip', 'images = "/pics/fox"', 'noise = multires']) {
    expect(script.slice(0, script.indexOf('accelerate'))).toContain(name);
  }
});

test('texts are kept there where nothing trains their encoders or changes them', () => {
  const unetOnly = hero.replace('seed = 7', 'train_text_encoder = false');
  const fixed = unetOnly.replace('keep_tokens = 1', 'shuffle_caption = false');
  const flagged = (text: string) => exported(text).includes('--cache_text_encoder_outputs');
  expect(
    [hero, unetOnly, fixed, fixed.replace('false }\ntrain', 'false  wildcards = true }\ntrain')].map(flagged),
  ).toEqual([false, false, true, false]);
});

test('processes have batches of their own there, so each has its part of the accumulation', () => {
  const launched = hero.replace('seed = 7', 'launch = torchrun { processes = 2 }  seed = 7');
  const script = exported(launched);
  expect(script).toContain('accelerate launch --multi_gpu --num_processes=2 ');
  expect(script).toContain('--gradient_accumulation_steps=3');
  const back = blockIn(imported(script), 'train').attributes;
  expect([back.launch, back.gradient_accumulation_steps]).toMatchObject([{ kind: 'torchrun', processes: 2 }, 6]);
  expect(exported(launched.replace('processes = 2', 'processes = 4'))).toContain('4 do not share 6 batches');
});

test('the guide comes back from sd-scripts as it went there', () => {
  const guide = imported(
    command(
      '--network_module=lycoris.kohya --network_args preset=full conv_dim=256 algo=locon --optimizer_type=SAVEUS --multires_noise_iterations=12',
    ),
  ).text;
  expect(meaning(imported(exported(guide)).text)).toEqual(meaning(guide));
});

/** A flag with one of its values, or without the flag. */
const flag = (name: string, ...values: string[]) => fc.constantFrom('', ...values.map((value) => `--${name} ${value}`));

const flags = fc
  .tuple(
    flag('resolution', '1024', '832,1216', '768'),
    flag('enable_bucket', ''),
    flag('min_bucket_reso', '512'),
    flag('bucket_reso_steps', '32', '64'),
    flag('network_dim', '4', '16'),
    flag('network_alpha', '2', '8.5', '0'),
    fc.constantFrom(
      '',
      '--network_args conv_dim=8 conv_alpha=2 rank_dropout=0.1',
      '--network_args loraplus_lr_ratio=16 up_lr_weight=1,0,1,0.5,1,1,1,1,1',
      `--network_args conv_dim=4 block_dims=${Array(23).fill(3)}`,
      '--network_module lycoris.kohya',
      '--network_module lycoris.kohya --network_args algo=lokr factor=8 decompose_both=True preset=attn-mlp',
      '--network_module lycoris.kohya --network_args algo=loha conv_dim=2 use_tucker=True',
      '--network_module lycoris.kohya --network_args algo=full preset=unet-only train_norm=True',
      '--network_module networks.loha --network_args conv_dim=2 network_reg_dims=.*attn2.to_k=4,.*attn1.*=0 network_reg_lrs=.*attn2.*=5e-5',
      `--network_args conv_dim=4 block_dims=${Array(23).fill(0)}`,
      '--network_module lycoris.kohya --network_args dora_wd=True rank_dropout=0.2',
      '--network_module lycoris.kohya --network_args dora_wd=True wd_on_output=False use_scalar=True',
      '--network_module lycoris.kohya --network_args algo=lokr use_scalar=True unbalanced_factorization=True',
    ),
    flag('network_dropout', '0.1'),
    fc.constantFrom(
      '',
      '--optimizer_type SAVEUS --optimizer_args amp_fac=3 "betas=(0.8, 0.99)" decouple_weight_decay=True weight_decay=0.1',
      '--optimizer_type AdamW8bit --optimizer_args weight_decay=0.2',
      '--optimizer_type Adafactor --optimizer_args relative_step=False scale_parameter=True',
      '--optimizer_type Adafactor --optimizer_args relative_step=False scale_parameter=False decay_rate=-0.7',
      '--optimizer_type Adafactor',
      '--optimizer_type Adafactor --optimizer_args warmup_init=True scale_parameter=False',
      '--optimizer_type Lion',
      '--optimizer_type pkg.CAME --optimizer_args eps1=1e-20 eps2=1e-10',
      `--optimizer_type pkg.Opt --optimizer_args 'a="x y"' b=None 'c=(1, True)'`,
    ),
    flag('learning_rate', '1e-3', '5e-5'),
    flag('unet_lr', '2e-4', '0'),
    flag('text_encoder_lr', '1e-5', '2e-5 1e-5'),
    flag('network_train_unet_only', ''),
    fc.constantFrom(
      '',
      '--lr_scheduler cosine --lr_warmup_steps 10',
      '--lr_scheduler cosine --lr_scheduler_args num_cycles=0.375',
      '--lr_scheduler cosine_with_restarts --lr_scheduler_num_cycles 4 --lr_warmup_steps 0.1',
      '--lr_scheduler cosine_with_min_lr --lr_scheduler_min_lr_ratio 0.3 --lr_scheduler_num_cycles 3',
      '--lr_scheduler constant_with_warmup --lr_warmup_steps 5',
      '--lr_scheduler_type OneCycleLR --lr_scheduler_args max_lr=1e-3 total_steps=80',
      '--lr_scheduler_type pkg.mod.Cycle',
      '--lr_scheduler polynomial --lr_scheduler_power 2 --lr_scheduler_args lr_end=1e-9',
      '--lr_scheduler warmup_stable_decay --lr_decay_steps 20 --lr_scheduler_args "decay_type=\'linear\'"',
      `--lr_scheduler piecewise_constant --lr_scheduler_args 'step_rules="1:10,0.1"'`,
    ),
    flag('max_train_steps', '40', '900', '7'),
    flag('save_every_n_steps', '5', '5 --save_last_n_steps 10'),
    flag('train_batch_size', '8'),
    flag('max_grad_norm', '0', '0.5'),
    flag('noise_offset', '0.05', '0.1 --noise_offset_random_strength --adaptive_noise_scale 0.01'),
    flag('multires_noise_iterations', '6', '8 --multires_noise_discount 0.25'),
    flag('ip_noise_gamma', '0.1'),
    flag('max_timestep', '800'),
    flag('loss_type', 'l1', 'huber --huber_c 0.2 --huber_schedule exponential', 'smooth_l1'),
    flag('min_snr_gamma', '5'),
    flag('mixed_precision', 'bf16', 'no'),
    flag('torch_compile', ''),
    flag('fp8_base', ''),
    flag('fp8_base_unet', ''),
    flag('save_precision', 'fp16', 'bf16'),
    flag('max_token_length', '225'),
    flag('caption_extension', 'txt', '.cap'),
    flag('shuffle_caption', '--keep_tokens 2'),
    flag('caption_prefix', '"a photo, of"'),
    flag('caption_dropout_rate', '0.1 --caption_tag_dropout_rate 0.2'),
    flag('flip_aug', ''),
    flag('sample_prompts', 'p.txt --sample_every_n_steps 20'),
    flag('validation_split', '0.2 --validate_every_n_steps 4'),
    flag('reg_data_dir', 'known --prior_loss_weight 0.5'),
    flag('bucket_no_upscale', ''),
    flag('scale_weight_norms', '1'),
    flag('network_weights', 'before.safetensors'),
    flag('seed', '3'),
    flag('zero_terminal_snr', '--v_parameterization'),
  )
  .map((all) => all.filter(Boolean).join(' '));

test('import, export and import again: the second program means what the first does', () => {
  fc.assert(
    fc.property(flags, (given) => {
      const first = imported(
        `python sdxl_train_network.py --pretrained_model_name_or_path=m.safetensors --train_data_dir=d --output_dir out --output_name x ${given}`,
      ).text;
      const second = imported(exported(first)).text;
      expect(meaning(second)).toEqual(meaning(first));
      // And so for ever: what is printed does not change any more.
      expect(exported(second)).toBe(exported(imported(exported(second)).text));
    }),
    { numRuns: 150 },
  );
});

test('the same for folders one by one, in a dataset configuration', () => {
  const toml = `[[datasets]]\nresolution = 1024\nenable_bucket = true\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir = 'C:\\pics\\fo"x'\nnum_repeats = 3\ncaption_extension = ".txt"\ncaption_prefix = "it's \\"quoted\\""\n[[datasets.subsets]]\nimage_dir = "known"\nis_reg = true\nkeep_tokens = 1`;
  const first = imported(toml).text;
  const second = imported(exported(first)).text;
  expect(meaning(second)).toEqual(meaning(first));
});

test('masks go there and come back, and masked_loss needs no word here', () => {
  const base = 'checkpoint model { path = "a.safetensors" } train raw { base = model  data = pictures }';
  const alpha = exported(`${base} dataset pictures { images = "a"  folders = kohya  alpha_mask = true }`);
  expect(alpha).toContain('--alpha_mask');
  expect(alpha).not.toContain('masked_loss');
  const folder = exported(
    `${base} dataset pictures { images = "a"  folders = kohya  masks = "m"  mask_missing = whole }`,
  );
  expect(folder).toContain('--conditioning_data_dir=m');
  expect(folder).toContain('--masked_loss');
  expect(folder).toContain('masks of "pictures": sd-scripts looks for each under the name of its image alone');
  expect(exported(`${base} dataset pictures { images = "a/*"  masks = "m" }`)).toContain('conditioning_data_dir = "m"');
  const [one, other] = [imported(alpha), imported(folder)];
  expect(blockIn(one, 'dataset').attributes.alpha_mask).toBe(true);
  expect(blockIn(other, 'dataset').attributes.masks?.text).toBe('m');
  expect([...one.lost, ...other.lost].filter((name) => name.includes('mask'))).toEqual([]);
  expect(other.text).toContain('masked_loss: Masks count by themselves where a dataset has them.');
});
