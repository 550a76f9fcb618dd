// What loaders and tools stumble over in a LoRA file, each in one sentence.

import type { FileHashes } from '../safetensors/hashes.ts';
import { statedBase } from './base-guess.ts';
import type { Norms } from './norms.ts';
import type { LoraReport } from './report.ts';

export interface Measured {
  readonly hashes?: FileHashes | undefined;
  readonly norms?: Norms | undefined;
  /** Tensors with NaN or infinity. */
  readonly nonFinite?: readonly string[] | undefined;
}

export function warningsOf(report: LoraReport, { hashes, norms, nonFinite = [] }: Measured): readonly string[] {
  return [
    ...aboutModules(report),
    ...aboutNames(report),
    ...aboutDiffusers(report),
    ...aboutNumbers(report, norms?.broken ?? [], new Set(nonFinite)),
    ...aboutMetadata(report),
    ...(hashes === undefined ? [] : aboutHashes(report, hashes)),
  ];
}

function aboutModules({ modules, strangers, base }: LoraReport): readonly string[] {
  const warnings: string[] = [];
  const problems = modules.flatMap(({ module, problems: own }) => own.map((problem) => `"${module.name}": ${problem}`));
  if (problems.length > 0)
    warnings.push(`${some(problems, 'module')} cannot be read as meant: ${listed(problems, 3)}.`);
  if (base.misfits.length > 0) {
    warnings.push(
      `${some(base.misfits, 'module')} of SDXL ${has(base.misfits)} another shape here, and loading fails: ${listed(base.misfits)}.`,
    );
  }
  const plain = modules.filter(({ module }) => isLowRank(module.family) && !module.isPeft);
  const mute = plain.filter(({ module }) => !module.tensors.has('alpha') && !module.tensors.has('scale'));
  if (mute.length > 0) {
    warnings.push(
      `Without alpha, and so of the scale 1: ${mute.length} of ${plain.length} modules; resize_lora.py drops them.`,
    );
  }
  const stray = modules.filter(({ module }) => module.tensors.has('scalar')).map(({ module }) => module.name);
  if (stray.length > 0) {
    warnings.push(
      `${some(stray, 'module')} ${has(stray)} a stray "scalar", which multiplies ΔW here and which loaders ignore: ${listed(stray)}.`,
    );
  }
  const negative = modules.filter(({ alpha = 1 }) => alpha <= 0).map(({ module }) => module.name);
  if (negative.length > 0) {
    warnings.push(
      `${some(negative, 'module')} ${has(negative)} an alpha that is not above zero, which some tools take the logarithm of: ${listed(negative)}.`,
    );
  }
  const bundled = strangers.filter((name) => name.startsWith('bundle_emb.'));
  if (bundled.length > 0)
    warnings.push(`${some(bundled, 'tensor')} of textual inversions bundled, which only some loaders use.`);
  const unknown = strangers.filter((name) => !bundled.includes(name));
  if (unknown.length > 0)
    warnings.push(
      `${some(unknown, 'tensor')} ${belongs(unknown)} to no adapter that is known; loaders skip them or refuse the file: ${listed(unknown)}.`,
    );
  return warnings;
}

function aboutNames({ modules, schemes, base }: LoraReport): readonly string[] {
  const warnings: string[] = [];
  if (
    schemes.has('kohya-diffusers') &&
    modules.some(({ name }) => name?.scheme === 'kohya' && name.component === 'unet')
  ) {
    warnings.push(
      'Some modules have names as in the checkpoint and some as in diffusers; diffusers loads only one kind of them.',
    );
  }
  const headless = modules
    .filter(({ name }) => name?.isHeadless && name.scheme === 'kohya')
    .map(({ module }) => module.name);
  if (headless.length > 0) {
    warnings.push(
      `${some(headless, 'text encoder name')} without "text_model", which no loader finds: ${listed(headless)}.`,
    );
  }
  if (base.base === 'SDXL' && (schemes.has('diffusers') || schemes.has('peft'))) {
    warnings.push(
      'The names are those of diffusers; some versions of ComfyUI do not find the attention layers of SDXL under them.',
    );
  }
  const met = new Set<string>();
  const twice = modules.flatMap(({ key }) => (met.size === met.add(key).size ? key : []));
  if (twice.length > 0) warnings.push(`${some(twice, 'module')} there twice under different names: ${listed(twice)}.`);
  const nowhere = modules.filter(({ place }) => place === '?').map(({ module }) => module.name);
  if (nowhere.length > 0 && base.base !== 'another family') {
    warnings.push(`${some(nowhere, 'module')} ${belongs(nowhere)} to no block that is known: ${listed(nowhere)}.`);
  }
  return warnings;
}

/**
 * diffusers 0.41 converts kohya's names of the matrices of attention in a way that their alphas do not survive: these
 * modules get the alpha that is the most frequent in their network.
 */
function aboutDiffusers({ modules }: LoraReport): readonly string[] {
  const isRead = modules.every(({ module, family }) => isLowRank(module.family) && !family.includes('Tucker'));
  if (!isRead) return [];
  const networks = Map.groupBy(
    modules.filter(({ name }) => name?.scheme === 'kohya' || name?.scheme === 'kohya-diffusers'),
    ({ name }) => name?.component,
  );
  const misread = [...networks.values()].flatMap((network) => {
    const taken = mostFrequent(network.flatMap(({ alpha }) => alpha ?? []));
    return network.filter(({ name, alpha }) => alpha !== undefined && alpha !== taken && isAttention(name?.path ?? ''));
  });
  if (misread.length === 0) return [];
  const names = misread.map(({ module }) => module.name);
  return [
    `${some(names, 'module')} of attention ${has(names)} another alpha than most of the network, which diffusers 0.41 takes for all of them: ${listed(names)}. What "lorac chop FILE --format diffusers" writes is read as meant.`,
  ];
}

function isLowRank(family: string): boolean {
  return family === 'LoRA' || family === 'DoRA';
}

function isAttention(path: string): boolean {
  return /(attn[12][._]to_(q|k|v|out)|self_attn[._])/.test(path);
}

/** Of equally frequent ones the first. */
function mostFrequent(values: readonly number[]): number | undefined {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].toSorted(([, a], [, b]) => b - a)[0]?.[0];
}

function aboutNumbers(
  { modules, strangers }: LoraReport,
  broken: readonly string[],
  nonFinite: ReadonlySet<string>,
): readonly string[] {
  const inside = modules.flatMap(({ module }) =>
    broken.includes(module.name) || [...module.tensors.values()].some((tensor) => nonFinite.has(tensor))
      ? module.name
      : [],
  );
  const outside = strangers.filter((tensor) => nonFinite.has(tensor));
  return [
    ...(inside.length === 0
      ? []
      : [`${some(inside, 'module')} with NaN or infinity, which spoils every picture: ${listed(inside)}.`]),
    ...(outside.length === 0 ? [] : [`${some(outside, 'other tensor')} with NaN or infinity: ${listed(outside)}.`]),
  ];
}

const MEBIBYTE = 2 ** 20;

function aboutMetadata({ metadata, base, headerBytes, ranks }: LoraReport): readonly string[] {
  const warnings: string[] = [];
  if (headerBytes > MEBIBYTE) {
    warnings.push(
      `The header has ${headerBytes} bytes; ComfyUI shows no metadata of a file whose header is over 1 MiB (${MEBIBYTE}).`,
    );
  }
  if (metadata === undefined || metadata.size === 0) {
    return [
      ...warnings,
      'There is no metadata: A1111 does not know the base model, and resize_lora.py stops with an error.',
    ];
  }
  const stated = metadata.get('ss_base_model_version');
  if (stated === undefined) {
    const taken = base.base === 'SD 1.x' ? '' : ', so A1111 takes it for a LoRA of Stable Diffusion 1';
    warnings.push(`The metadata has no ss_base_model_version${taken}.`);
  } else if (!['unknown', base.base].includes(statedBase(stated) ?? 'unknown') && base.base !== 'unknown') {
    warnings.push(`ss_base_model_version is "${stated}", and its modules are those of ${base.base}.`);
  }
  const dim = metadata.get('ss_network_dim') ?? '';
  const linear = ranks.find(({ kind }) => kind === 'linear');
  if (/^\d+$/.test(dim) && linear !== undefined && linear.ranks.length > 0 && !linear.ranks.includes(Number(dim))) {
    warnings.push(`ss_network_dim is ${dim}, and no linear module has that rank.`);
  }
  return warnings;
}

function aboutHashes({ metadata }: LoraReport, { model }: FileHashes): readonly string[] {
  const stored = metadata?.get('sshs_model_hash');
  if (stored === undefined || stored === model) return [];
  const how = stored === `0x${model}` ? 'has a "0x" before it' : 'is not that of the tensors in the file';
  return [`sshs_model_hash ${how}; A1111 and Forge show it in place of the true one.`];
}

function some(items: readonly unknown[], word: string): string {
  return `${items.length} ${word}${items.length === 1 ? '' : 's'}`;
}

function has(items: readonly unknown[]): string {
  return items.length === 1 ? 'has' : 'have';
}

function belongs(items: readonly unknown[]): string {
  return items.length === 1 ? 'belongs' : 'belong';
}

function listed(names: readonly string[], shown = 2): string {
  const more = names.length - shown;
  return more <= 0 ? names.join(', ') : `${names.slice(0, shown).join(', ')} and ${more} more`;
}
