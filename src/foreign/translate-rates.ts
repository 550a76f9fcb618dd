// Learning rates, optimizers and schedulers.

import { lrScheduler, optimizer } from '../parser/schema/rates.ts';
import { type Asked, argumentsOf } from './asked.ts';
import { fitted, isWritable, rowOf } from './draft.ts';
import { asBoolean, asNumber, type Plain } from './plain.ts';
import { literalOrText } from './python-literal.ts';

export interface Tagged {
  readonly kind: string;
  readonly [field: string]: unknown;
}

/** Names that sd-scripts compares in lower case, and what they are here. */
const known: { readonly [name: string]: keyof typeof optimizer.variants } = {
  adamw: 'AdamW',
  adamw8bit: 'AdamW8bit',
  pagedadamw: 'AdamW',
  pagedadamw32bit: 'AdamW',
  pagedadamw8bit: 'AdamW8bit',
  lion: 'Lion',
  lion8bit: 'Lion',
  pagedlion8bit: 'Lion',
  prodigy: 'Prodigy',
  adafactor: 'Adafactor',
  came: 'CAME',
  saveus: 'SAVEUS',
};

/** Names that sd-scripts knows, where the class comes from another package than its name says. */
const classes: { readonly [name: string]: string } = {
  sgdnesterov: 'torch.optim.SGD',
  sgdnesterov8bit: 'bitsandbytes.optim.SGD8bit',
  dadaptation: 'dadaptation.experimental.DAdaptAdamPreprint',
  dadaptadampreprint: 'dadaptation.experimental.DAdaptAdamPreprint',
  dadaptadagrad: 'dadaptation.DAdaptAdaGrad',
  dadaptadam: 'dadaptation.DAdaptAdam',
  dadaptadan: 'dadaptation.DAdaptAdan',
  dadaptadanip: 'dadaptation.experimental.DAdaptAdanIP',
  dadaptlion: 'dadaptation.DAdaptLion',
  dadaptsgd: 'dadaptation.DAdaptSGD',
};

export function translateOptimizer(asked: Asked): Tagged {
  const name = optimizerName(asked);
  const args = argumentsOf(asked.get('optimizer_args'));
  const last = name.split('.').at(-1)?.toLowerCase() ?? '';
  const kind = known[last];
  if (kind === undefined || kind === 'python') return anyClass(asked, name, args);
  if (/^paged|8bit$/.test(last) && kind !== 'AdamW8bit') {
    asked.leave('optimizer_type', `Its states are kept in 32 bits here, and in the memory of the GPU: ${kind}.`);
  }
  // Where nothing is said, transformers scales by the size of weights.
  const draft: { kind: string; [field: string]: unknown } = {
    kind,
    ...(kind === 'Adafactor' && { scale_parameter: true }),
  };
  for (const [key, text] of kind === 'CAME' ? withPairOfEps(args) : args) {
    const [field, row] = rowOf(optimizer.variants[kind], key) ?? [];
    const value = literalOrText(text);
    const isExpression = row?.type.kind === 'schedule' && typeof value === 'string';
    const fitting = isExpression ? expression(value) : row && fitted(row.type, value);
    if (field !== undefined && fitting !== undefined) draft[field] = fitting;
    else if (!isSilent(kind, key, value))
      asked.leaveValue({
        name: key,
        value,
        reason: row === undefined ? `${kind} has no such setting here.` : `${field} cannot be that here.`,
      });
  }
  return draft;
}

/** pytorch_optimizer has two arguments where we have a pair. */
function withPairOfEps(args: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const [one, two] = [args.get('eps1'), args.get('eps2')];
  if (one === undefined || two === undefined) return args;
  const rest = [...args].filter(([name]) => name !== 'eps1' && name !== 'eps2');
  return new Map([...rest, ['eps', `(${one}, ${two})`]]);
}

function optimizerName(asked: Asked): string {
  const name = asked.text('optimizer_type');
  if (asked.boolean('use_8bit_adam')) return 'AdamW8bit';
  if (asked.boolean('use_lion_optimizer')) return 'Lion';
  return name ?? 'AdamW';
}

/** Where Adafactor finds its rates itself, as it does unless it is told not to, and when it warms up, though it is. */
export function ownRatesOfAdafactor(asked: Asked): { readonly warmup_init: boolean } | undefined {
  const name = asked.peek('optimizer_type');
  if (typeof name !== 'string' || known[name.toLowerCase()] !== 'Adafactor') return undefined;
  const args = argumentsOf(asked.peek('optimizer_args'));
  const [relative, warm] = ['relative_step', 'warmup_init'].map((key) => asBoolean(args.get(key)));
  return relative === false && warm !== true ? undefined : { warmup_init: warm === true };
}

/** What says in Adafactor whose rates count, which the schedule tells here, and what Prodigy says in the log. */
function isSilent(kind: string, key: string, value: Plain): boolean {
  if (kind === 'Adafactor') return ['relative_step', 'warmup_init'].includes(key) && typeof value === 'boolean';
  return kind === 'Prodigy' && (key === 'slice_p' || key === 'fsdp_in_use');
}

/** Arithmetic over step, which SAVEUS takes as text. */
function expression(text: string): string | undefined {
  return /^[\d\s.+\-*/()]*(?:step[\d\s.+\-*/()e]*)*$/.test(text) && text.trim() !== '' ? text.trim() : undefined;
}

function anyClass(asked: Asked, name: string, args: ReadonlyMap<string, string>): Tagged {
  const path = classes[name.toLowerCase()] ?? (name.includes('.') ? name : `torch.optim.${name}`);
  if (!/^[A-Za-z_][\w.]*$/.test(path)) {
    asked.leave('optimizer_type', 'This is no name of a class. AdamW stands in its place.');
    return { kind: 'AdamW' };
  }
  const nesterov =
    path === 'torch.optim.SGD' && name.toLowerCase() === 'sgdnesterov' ? { nesterov: true, momentum: 0.9 } : {};
  const given = [...args].map(([key, text]) => [key, literalOrText(text)] as const);
  const usable = given.filter(([, value]) => typeof value !== 'string' || isWritable(value));
  const all = { ...nesterov, ...Object.fromEntries(usable) };
  return { kind: 'python', class: path, ...(Object.keys(all).length > 0 && { args: all }) };
}

/** The scheduler with its arguments; which of the options it reads is not the same for all. */
export function translateScheduler(asked: Asked): Tagged {
  const args = new Map(
    [...argumentsOf(asked.get('lr_scheduler_args'))].map(([name, text]) => [name, literalOrText(text)] as const),
  );
  const ofAdafactor = ownRatesOfAdafactor(asked);
  const own = asked.text('lr_scheduler_type');
  if (ofAdafactor !== undefined) return withoutOthers(asked, { kind: 'adafactor', ...ofAdafactor });
  if (own !== undefined && own !== '') {
    const scheduler = classOfScheduler(asked, own, args);
    if (scheduler !== undefined) return withoutOthers(asked, scheduler);
  }
  const name = asked.text('lr_scheduler') ?? 'constant';
  const known = Object.hasOwn(lrScheduler.variants, name);
  if (!known) asked.leave('lr_scheduler', 'lorac has no such scheduler. The rates are constant in its place.');
  const kind = (known ? name : 'constant') as keyof typeof lrScheduler.variants;

  const draft: { kind: string; [field: string]: unknown } = { kind };
  const fields = lrScheduler.variants[kind];
  const set = (field: string, source: string, value: Plain | undefined) => {
    if (value === undefined) return;
    const row = Object.hasOwn(fields, field) ? fields[field as keyof typeof fields] : undefined;
    const fitting = row === undefined ? undefined : fitted((row as { type: Parameters<typeof fitted>[0] }).type, value);
    if (fitting === undefined)
      asked.leaveValue({
        name: source,
        value,
        reason: row === undefined ? `The scheduler ${kind} does not read it.` : `${field} cannot be that here.`,
      });
    else draft[field] = fitting;
  };

  const warmup = asked.get('lr_warmup_steps');
  if (warmup !== undefined && asNumber(warmup) !== 0) set('warmup', 'lr_warmup_steps', warmup);
  setCycles(kind, asked, args, set);
  if (kind === 'polynomial') set('power', 'lr_scheduler_power', asked.get('lr_scheduler_power'));
  if (kind === 'inverse_sqrt') set('timescale', 'lr_scheduler_timescale', asked.get('lr_scheduler_timescale'));
  if (kind === 'warmup_stable_decay') set('decay', 'lr_decay_steps', asked.get('lr_decay_steps'));
  if ('min_lr_ratio' in fields)
    set('min_lr_ratio', 'lr_scheduler_min_lr_ratio', asked.get('lr_scheduler_min_lr_ratio'));
  for (const [key, value] of args) {
    const field = rowOf(fields, key)?.[0] ?? key;
    set(field, key, value);
  }
  for (const name of optionsOfSchedulers) {
    if (asked.rest.includes(name) && isMeant(name, asked.peek(name)))
      asked.leave(name, `The scheduler ${kind} does not read it.`);
    else asked.get(name);
  }
  return draft;
}

const optionsOfSchedulers = [
  'lr_scheduler_num_cycles',
  'lr_scheduler_power',
  'lr_scheduler_timescale',
  'lr_decay_steps',
  'lr_scheduler_min_lr_ratio',
];

/** A scheduler that takes no notice of what the others read. */
function withoutOthers(asked: Asked, scheduler: Tagged): Tagged {
  for (const name of ['lr_scheduler', 'lr_warmup_steps', ...optionsOfSchedulers]) asked.get(name);
  return scheduler;
}

/** As sd-scripts finds it: a name without a dot is one of torch. It has the arguments alone. */
function classOfScheduler(asked: Asked, name: string, args: ReadonlyMap<string, Plain>): Tagged | undefined {
  const path = name.includes('.') ? name : `torch.optim.lr_scheduler.${name}`;
  if (!/^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/.test(path)) {
    asked.leave('lr_scheduler_type', 'This is no name of a class. The scheduler of lr_scheduler stands in its place.');
    return undefined;
  }
  const usable = [...args].filter(([, value]) => typeof value !== 'string' || isWritable(value));
  return { kind: 'python', class: path, ...(usable.length > 0 && { args: Object.fromEntries(usable) }) };
}

/** Graphical programs write the defaults of all schedulers. */
const isMeant = (name: string, value: Plain | undefined) =>
  asNumber(value) !== (name === 'lr_scheduler_min_lr_ratio' || name === 'lr_decay_steps' ? 0 : 1);

/** `lr_scheduler_num_cycles` is passed on by three schedulers, and halved by one of them. */
function setCycles(
  kind: string,
  asked: Asked,
  args: Map<string, Plain>,
  set: (field: string, source: string, value: Plain | undefined) => void,
): void {
  const isHalved = kind === 'cosine_with_min_lr' || kind === 'warmup_stable_decay';
  if (isHalved || kind === 'cosine_with_restarts') {
    const cycles = asNumber(asked.get('lr_scheduler_num_cycles'));
    set('num_cycles', 'lr_scheduler_num_cycles', isHalved && cycles !== undefined ? cycles / 2 : cycles);
  }
  // transformers' own default, half a wave, and not ours.
  if (kind === 'cosine' && !args.has('num_cycles')) set('num_cycles', 'num_cycles', 0.5);
}

export interface Rates {
  readonly unet_lr: number | undefined;
  readonly text_encoder_lr: number | undefined;
  readonly blockRates: { readonly [block: string]: number };
}

/** `learning_rate` stands in for whichever of the two is missing. Two text encoders may have rates of their own. */
export function translateRates(asked: Asked, isLycoris: boolean): Rates {
  const both = asked.number('learning_rate');
  const unet = asked.number('unet_lr') ?? both;
  const [first, second] = [
    asked.numbers('text_encoder_lr') ?? [],
    [asked.number('text_encoder_lr1'), asked.number('text_encoder_lr2')],
  ];
  const one = second[0] ?? first[0] ?? both;
  const two = second[1] ?? first[1] ?? one;
  if (one === two || one === undefined || two === undefined || isLycoris)
    return { unet_lr: unet, text_encoder_lr: one, blockRates: {} };
  return one === 0
    ? { unet_lr: unet, text_encoder_lr: two, blockRates: { TE1: 0 } }
    : { unet_lr: unet, text_encoder_lr: one, blockRates: { TE2: two / one } };
}
