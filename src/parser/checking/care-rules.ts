// Settings of a training that are allowed, and with which trainings most likely fail. Each rule only warns.

import * as problem from '../diagnostics/diagnostics.ts';
import type { BlockOf } from '../model.ts';
import type { Scope } from './scope.ts';

type Train = BlockOf<'train'>;

export function takeCare(scope: Scope, block: Train): void {
  warnOfAlpha(scope, block);
  warnOfRates(scope, block);
  warnOfIntervals(scope, block);
  warnOfProcesses(scope, block);
}

/** The scale of an adapter is alpha / rank; with rs_lora it is another, and LoKr's rank is no rank of a product. */
function warnOfAlpha(scope: Scope, { attributes, attributeSpans, span }: Train): void {
  const { network } = attributes;
  const place = attributeSpans.network;
  // The defaults are those of the guide.
  if (place === undefined || !('alpha' in network) || network.kind === 'lokr' || network.rs_lora) return;
  const pairs = [
    { alpha: 'alpha', rank: 'dim' },
    { alpha: 'conv_alpha', rank: 'conv_dim' },
  ] as const;
  const written = place.source.text.slice(place.start, place.end);
  for (const { alpha, rank } of pairs) {
    const isWritten = new RegExp(`\\b${alpha}\\b`).test(written);
    // The default with a rank of 2 is a scale of 2, which does little harm.
    if (network[rank] === 0 || network[alpha] <= network[rank] * (isWritten ? 1 : 2)) continue;
    scope.report(
      problem.alphaAboveRank(place ?? span, {
        alpha: { name: alpha, value: network[alpha] },
        rank: { name: rank, value: network[rank] },
        isWritten,
      }),
    );
    return;
  }
}

/** What people use for adapters, by optimizer. Whole weights want about a tenth. Prodigy has a rule of its own. */
const usualRates: { readonly [optimizer: string]: number } = {
  SAVEUS: 3e-4,
  AdamW: 1e-4,
  AdamW8bit: 1e-4,
  Adafactor: 1e-4,
  CAME: 1e-4,
  Lion: 3e-5,
};

/** Within these factors of what is usual, nothing is said: good recipes differ by far more than the textbooks. */
const [tooHigh, tooLow] = [20, 100];

function warnOfRates(scope: Scope, { attributes, attributeSpans, span }: Train): void {
  const { optimizer, network, lr_scheduler } = attributes;
  const ofAdapters = usualRates[optimizer.kind];
  // What Adafactor finds itself has a rule of its own, and a class may mean anything.
  if (ofAdapters === undefined || lr_scheduler.kind === 'adafactor' || lr_scheduler.kind === 'python') return;
  const usual = network.kind === 'full' ? ofAdapters / 10 : ofAdapters;
  for (const name of ['unet_lr', 'text_encoder_lr'] as const) {
    const place = attributeSpans[name] ?? attributeSpans.optimizer;
    const value = attributes[name];
    // Text encoders are often trained far more gently.
    const isLow = name === 'unet_lr' && value < usual / tooLow;
    if (place === undefined || value === 0 || (!isLow && value <= usual * tooHigh)) continue;
    scope.report(problem.farRate(place ?? span, { name, value, usual, optimizer: optimizer.kind }));
    return;
  }
}

function warnOfIntervals(scope: Scope, { attributes, attributeSpans }: Train): void {
  const { steps, save_every, sample, validation } = attributes;
  const written = [
    { name: 'save_every', every: save_every, place: attributeSpans.save_every, what: 'only the last one is kept' },
    { name: 'every', every: sample?.every, place: attributeSpans.sample, what: 'no picture is made on the way' },
    {
      name: 'every',
      every: validation?.every,
      place: attributeSpans.validation,
      what: 'it is measured only at the end',
    },
  ];
  for (const { name, every, place, what } of written) {
    // A default that is above the steps of a short trial says nothing.
    if (every === undefined || place === undefined || every <= steps) continue;
    if (name === 'every' && !/\bevery\b/.test(place.source.text.slice(place.start, place.end))) continue;
    scope.report(problem.lateInterval(place, { name, every, steps, what }));
  }
}

/** A process without images only waits for the others. */
function warnOfProcesses(scope: Scope, { attributes, attributeSpans, span }: Train): void {
  const { launch, batch_size, gradient_accumulation_steps } = attributes;
  if (launch.kind === 'single') return;
  const processes = (launch.processes ?? 1) * launch.machines;
  const images = batch_size * gradient_accumulation_steps;
  if (processes > images) scope.report(problem.idleProcesses(attributeSpans.launch ?? span, processes, images));
}
