// What lorac inspect tells, for people. Every word that comes from a file is cleaned on its way.

import { cleanLine } from '../parser/clean-text.ts';
import { heatMark, table } from '../runtime/inspect/heat.ts';
import type { LoraReport, RankFacts } from '../runtime/inspect/report.ts';
import type { SafetensorsFile } from '../runtime/safetensors/file.ts';
import type { FileHashes } from '../runtime/safetensors/hashes.ts';
import type { Architecture } from '../runtime/sdxl/architecture.ts';
import { count, size } from '../tui/units.ts';
import { blockLines } from './inspect-blocks.ts';
import { metadataValue } from './inspect-metadata.ts';
import type { Compared, Inspected, OtherFile } from './inspected.ts';

export function loraLines(inspected: Inspected, color: boolean): string[] {
  const { report, hashes, warnings } = inspected;
  const sections = [
    summary(report),
    blockLines(inspected, color),
    ...(['SDXL', 'SD 1.x', 'SD 2.x'].includes(report.base.base) ? [report.layout] : []),
    ...(hashes === undefined ? [] : [hashLines(hashes, report.metadata)]),
    metadataLines(report.metadata),
    warnings.map((warning) => cleanLine(`warning: ${warning}`)),
  ];
  return joined(sections);
}

export function checkpointLines(file: SafetensorsFile, what: OtherFile, hashes: FileHashes | undefined): string[] {
  const { tensors, metadata } = file.header;
  const told =
    what.kind === 'checkpoint'
      ? architectureFacts(what.architecture)
      : [['kind', `It ${what.message}.`], ...(what.hint === undefined ? [] : [['hint', what.hint]])];
  const dtypes = new Map<string, number>();
  for (const { dtype } of tensors.values()) dtypes.set(dtype, (dtypes.get(dtype) ?? 0) + 1);
  return joined([
    facts([
      ['file', `${file.path}, ${size(file.sizeBytes)}`],
      ...told,
      ['tensors', `${tensors.size}: ${[...dtypes].map(([dtype, number]) => `${number} ${dtype}`).join(', ')}`],
    ]),
    ...(hashes === undefined ? [] : [hashLines(hashes, metadata)]),
    metadataLines(metadata),
  ]);
}

export function comparisonLines(
  first: Inspected,
  { second, comparison, difference }: Compared,
  color: boolean,
): string[] {
  const [a, b] = [first.report, second.report];
  const { shared, onlyFirst, onlySecond, differences, metadata } = comparison;
  const isSame = first.hashes !== undefined && first.hashes.model === second.hashes?.model;
  const found = differences.map(({ place, what, first: one, second: two, modules }) => [
    place,
    what,
    cleanLine(`${one} → ${two}`),
    count(modules, 'module'),
  ]);
  const shown = 40;
  return joined([
    ...[a, b].map(summary),
    facts([
      ['in both', count(shared, 'module')],
      ['only in the first', some(onlyFirst)],
      ['only in the second', some(onlySecond)],
      ['metadata', metadata.length === 0 ? 'the same' : `differs in ${some(metadata, 8)}`],
      ...(first.hashes === undefined ? [] : [['tensors', isSame ? 'the same bytes' : 'different bytes']]),
    ]),
    found.length === 0
      ? ['All shared modules have the same family, shape, rank and scale.']
      : [...table(found.slice(0, shown), 3), ...(found.length > shown ? [`and ${found.length - shown} more`] : [])],
    difference === undefined ? [] : differenceLines(difference, color),
    [...first.warnings.map((text) => `${a.path}: ${text}`), ...second.warnings.map((text) => `${b.path}: ${text}`)].map(
      (text) => cleanLine(`warning: ${text}`),
    ),
  ]);
}

function differenceLines({ blocks: apart, whole }: NonNullable<Compared['difference']>, color: boolean): string[] {
  // Nothing in the first file to be relative to.
  const onlyInSecond = [...apart].filter(([, value]) => value === Infinity).map(([place]) => place);
  const measured = [...apart].filter(([, value]) => value !== Infinity);
  const highest = Math.max(...measured.map(([, value]) => value));
  const rows = measured.map(([place, value]) => [place, heatMark(value, highest, color), value.toPrecision(3)]);
  return [
    `‖ΔW₁ − ΔW₂‖ / ‖ΔW₁‖ = ${whole === Infinity ? '∞' : whole.toPrecision(3)} in all, and by block`,
    ...table(rows, 2),
    ...(onlyInSecond.length === 0 ? [] : [`in the second file alone: ${onlyInSecond.join(', ')}`]),
  ];
}

function summary(report: LoraReport): string[] {
  const { base, families, modules, strangers, dtypes, schemes, ranks, textEncoders } = report;
  const tensors = [...dtypes.values()].reduce((sum, number) => sum + number, 0);
  return facts([
    ['file', `${report.path}, ${size(report.sizeBytes)}, header ${size(report.headerBytes)}`],
    ['base', base.base === 'unknown' ? `unknown: ${base.because}` : `${base.base}: ${base.because}`],
    ['family', `${tallied(families)} (${count(modules.length, 'module')}, ${count(tensors, 'tensor')})`],
    ['names', tallied(schemes)],
    ...ranks.map((rank) => [rank.kind, rankText(rank)]),
    [
      'text encoders',
      textEncoders.map((text) => `${text.place} ${text.modules} (${text.covers})`).join(', ') || 'none',
    ],
    ['types', tallied(dtypes)],
    ...(strangers.length === 0 ? [] : [['other tensors', some(strangers)]]),
  ]);
}

function rankText({ modules, unranked, ranks, alphas, scales }: RankFacts): string {
  if (unranked === modules) return `${count(modules, 'module')} without rank`;
  const alpha =
    alphas.length === 1 && alphas[0] === undefined
      ? 'no alpha'
      : `alpha ${span(alphas.map((one) => one ?? Number.NaN))}`;
  const others = unranked === 0 ? '' : `; ${unranked} without rank`;
  return `${count(modules, 'module')}, rank ${span(ranks)}, ${alpha}, scale ${span(scales)}${others}`;
}

/** Few numbers in full, many by their ends. NaN stands for a module without. */
function span(numbers: readonly number[]): string {
  const words = numbers
    .filter((number) => !Number.isNaN(number))
    .map((number) => String(Number(number.toPrecision(4))));
  const missing = words.length < numbers.length ? ' or none' : '';
  return `${words.length <= 3 ? words.join(', ') : `${words[0]} to ${words.at(-1)}`}${missing}`;
}

function hashLines(hashes: FileHashes, metadata: ReadonlyMap<string, string> | undefined): string[] {
  const stored = (key: string, is: string): string => {
    const value = metadata?.get(key);
    if (value === undefined) return `${is} (not stored)`;
    return value === is ? `${is} (stored, and right)` : `${is} (stored: ${cut(value, 70)})`;
  };
  return facts([
    ['SHA-256', hashes.file],
    ['AutoV2', hashes.file.slice(0, 10).toUpperCase()],
    ['AutoV3', hashes.autoV3.toUpperCase()],
    ['sshs_model_hash', stored('sshs_model_hash', hashes.model)],
    ['sshs_legacy_hash', stored('sshs_legacy_hash', hashes.legacy)],
  ]);
}

function metadataLines(metadata: ReadonlyMap<string, string> | undefined): string[] {
  if (metadata === undefined || metadata.size === 0) return ['no metadata'];
  const pairs = [...metadata].sort(([a], [b]) => (a < b ? -1 : 1));
  return ['metadata', ...facts(pairs.map(([key, value]) => [`  ${cut(key, 60)}`, metadataValue(key, value)]))];
}

function architectureFacts({ unet, te1, te2, vae, prediction, zeroTerminalSnr }: Architecture): string[][] {
  const text = ({ layers, width }: Architecture['te1']): string => `${layers} layers, ${width} wide`;
  return [
    ['kind', 'an SDXL checkpoint'],
    [
      'UNet',
      `${unet.widths.join(', ')} channels; ${unet.depths.join(', ')} transformer blocks; reads text ${unet.contextWidth} wide`,
    ],
    ['text encoders', `${text(te1)}; ${text(te2)}`],
    ['VAE', `${vae.widths.join(', ')} channels`],
    ['prediction', `${prediction}${zeroTerminalSnr ? ', zero terminal SNR' : ''}`],
  ];
}

function tallied(counts: ReadonlyMap<string, number>): string {
  if (counts.size === 1) return [...counts.keys()].join('');
  return [...counts].map(([word, number]) => `${word} ${number}`).join(', ');
}

function some(names: readonly string[], shown = 3): string {
  if (names.length === 0) return 'none';
  const more = names.length - shown;
  const list = names
    .slice(0, shown)
    .map((name) => cut(name, 100))
    .join(', ');
  return `${names.length}: ${list}${more > 0 ? ` and ${more} more` : ''}`;
}

function facts(pairs: readonly (readonly string[])[]): string[] {
  const width = Math.max(...pairs.map(([name = '']) => name.length));
  return pairs.map(([name = '', value = '']) => `${name.padEnd(width)}  ${cleanLine(value)}`.trimEnd());
}

function cut(text: string, length: number): string {
  const clean = cleanLine(text.slice(0, 4 * length));
  return text.length <= length && clean.length <= length ? clean : `${clean.slice(0, length - 1)}…`;
}

function joined(sections: readonly (readonly string[])[]): string[] {
  return sections
    .filter((section) => section.length > 0)
    .flatMap((section, index) => (index === 0 ? section : ['', ...section]));
}
