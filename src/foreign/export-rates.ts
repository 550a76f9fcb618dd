// Optimizers, schedulers and rates as flags.

import { isDeepStrictEqual } from 'node:util';
import { writeValue } from '../parser/diagnostics/describe.ts';
import type { AttributesOf } from '../parser/model.ts';
import { optimizer as optimizers, lrScheduler as schedulers } from '../parser/schema/rates.ts';
import type { Fields } from '../parser/schema/types.ts';
import type { Arguments } from '../parser/values.ts';
import { addFlag, addList, type CommandDraft, pythonLiteral } from './command-draft.ts';

type Train = AttributesOf<'train'>;

/** Where sd-scripts finds what we have; a name with a dot is imported as it stands. */
const names: { readonly [kind in Train['optimizer']['kind']]: string | undefined } = {
  SAVEUS: 'lora_worker.saveus.SAVEUS',
  AdamW: 'AdamW',
  AdamW8bit: 'AdamW8bit',
  Adafactor: 'Adafactor',
  Prodigy: 'Prodigy',
  Lion: 'Lion',
  CAME: 'pytorch_optimizer.CAME',
  python: undefined,
};

export function exportOptimizer(draft: CommandDraft, { optimizer, lr_scheduler }: Train): void {
  addFlag(
    draft,
    'optimizer_type',
    names[optimizer.kind] ?? (optimizer.kind === 'python' ? optimizer.class : optimizer.kind),
  );
  addList(draft, 'optimizer_args', argumentsFor(optimizer, lr_scheduler));
  if (optimizer.kind === 'SAVEUS')
    draft.notes.push(
      'SAVEUS: python/lora_worker/saveus.py of lorac needs torch alone. Put the folder python of lorac into PYTHONPATH.',
    );
  if (optimizer.kind === 'CAME') draft.notes.push('CAME: the package pytorch_optimizer has to be installed.');
}

function argumentsFor(optimizer: Train['optimizer'], scheduler: Train['lr_scheduler']): string[] {
  const { kind, ...values } = optimizer;
  if (optimizer.kind === 'python')
    return Object.entries(optimizer.args ?? {}).map(([name, value]) => `${name}=${pythonLiteral(value)}`);
  const fields: Fields = optimizers.variants[kind];
  const written = Object.entries(values).flatMap(([name, value]) => {
    const row = fields[name];
    if (row === undefined || value === undefined || isDeepStrictEqual(value, row.default)) return [];
    if (kind === 'CAME' && name === 'eps') return (value as readonly number[]).map((eps, at) => `eps${at + 1}=${eps}`);
    const text =
      row.type.kind === 'schedule'
        ? pythonLiteral(writeValue(row.type, value))
        : pythonLiteral(value as Arguments[string]);
    return [`${kind === 'Prodigy' && name === 'decouple_weight_decay' ? 'decouple' : name}=${text}`];
  });
  // Its own default is a relative step, which takes no notice of the rates.
  if (optimizer.kind !== 'Adafactor') return written;
  return [
    ...written.filter((one) => !one.startsWith('scale_parameter')),
    `scale_parameter=${pythonLiteral(optimizer.scale_parameter)}`,
    `relative_step=${pythonLiteral(scheduler.kind === 'adafactor')}`,
    `warmup_init=${pythonLiteral(scheduler.kind === 'adafactor' && scheduler.warmup_init)}`,
  ];
}

/** What each scheduler takes from a flag; all else are `lr_scheduler_args`. */
const flagged: { readonly [field: string]: string } = {
  warmup: 'lr_warmup_steps',
  power: 'lr_scheduler_power',
  timescale: 'lr_scheduler_timescale',
  decay: 'lr_decay_steps',
  min_lr_ratio: 'lr_scheduler_min_lr_ratio',
};

export function exportScheduler(draft: CommandDraft, train: Train): void {
  const { lr_scheduler } = train;
  const { kind, ...values } = lr_scheduler;
  if (lr_scheduler.kind === 'python') {
    addFlag(draft, 'lr_scheduler_type', lr_scheduler.class);
    const args = Object.entries(lr_scheduler.args ?? {});
    addList(
      draft,
      'lr_scheduler_args',
      args.map(([name, value]) => `${name}=${pythonLiteral(value)}`),
    );
    return;
  }
  if (lr_scheduler.kind === 'adafactor') {
    addFlag(draft, 'lr_scheduler', kind);
    const { unet_lr, text_encoder_lr, loraplus_lr_ratio, block_lr } = train;
    const isEven = [unet_lr, text_encoder_lr].every((rate) => rate === 0 || rate === 1);
    if (!isEven || loraplus_lr_ratio !== 1 || Object.keys(block_lr).length > 0)
      draft.notes.push('lr_scheduler = adafactor: sd-scripts takes no notice of rates with it, and has one for all.');
    return;
  }
  const fields: Fields = schedulers.variants[kind];
  addFlag(draft, 'lr_scheduler', kind);
  const args: string[] = [];
  for (const [name, value] of Object.entries(values)) {
    const usual = fields[name]?.default;
    if (value === undefined) continue;
    if (name === 'num_cycles') addCycles(draft, args, kind, value as number);
    else if (isDeepStrictEqual(value, usual) && name !== 'decay' && name !== 'min_lr_ratio') continue;
    else if (flagged[name] !== undefined) addFlag(draft, flagged[name], value as number);
    else args.push(`${name}=${pythonLiteral(value as Arguments[string])}`);
  }
  addList(draft, 'lr_scheduler_args', args);
}

/** A count for restarts, an argument for cosine, and twice as many where it is halved on the way. */
function addCycles(draft: CommandDraft, args: string[], kind: string, cycles: number): void {
  if (kind === 'cosine') args.push(`num_cycles=${cycles}`);
  else if (kind === 'cosine_with_restarts') addFlag(draft, 'lr_scheduler_num_cycles', cycles);
  else if (Number.isInteger(cycles * 2)) addFlag(draft, 'lr_scheduler_num_cycles', cycles * 2);
  else draft.notes.push(`num_cycles = ${cycles}: sd-scripts has whole numbers of half waves with ${kind}.`);
}

export function exportRates(draft: CommandDraft, train: Train): void {
  const { unet_lr, text_encoder_lr, train_unet, train_text_encoder, block_lr, network } = train;
  const isUnetOnly = !train_text_encoder || network.preset === 'unet-only';
  if (isUnetOnly) addFlag(draft, 'network_train_unet_only');
  if (!train_unet) addFlag(draft, 'network_train_text_encoder_only');
  addFlag(draft, 'learning_rate', unet_lr > 0 ? unet_lr : text_encoder_lr);
  if (train_unet) addFlag(draft, 'unet_lr', unet_lr);
  if (isUnetOnly) return;
  const [one, two] = [block_lr.TE1 ?? block_lr.TE ?? 1, block_lr.TE2 ?? block_lr.TE ?? 1];
  if (one === two) addFlag(draft, 'text_encoder_lr', text_encoder_lr * one);
  else
    draft.flags.push({ name: 'text_encoder_lr', values: [text_encoder_lr * one, text_encoder_lr * two].map(String) });
}
