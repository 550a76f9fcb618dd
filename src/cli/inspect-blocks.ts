// The blocks of a LoRA as lorac inspect tells them: how large each is, and how strong where that was measured.

import { cleanLine } from '../parser/clean-text.ts';
import { heatMark, heatStrip, table } from '../runtime/inspect/heat.ts';
import type { Norms } from '../runtime/inspect/norms.ts';
import { SHARES } from '../runtime/inspect/spectra.ts';
import { count, size } from '../tui/units.ts';
import type { Inspected } from './inspected.ts';

/** A strip of heat, and a table with a row for each block and one for all. */
export function blockLines(inspected: Inspected, color: boolean): string[] {
  const { report, norms, base } = inspected;
  const norm = norms?.blocks ?? new Map<string, number>();
  const heat = new Map(
    report.blocks.map(({ place, sizeBytes }) => [place, norms ? (norm.get(place) ?? 0) : sizeBytes]),
  );
  if (base) for (const [place, value] of heat) heat.set(place, value / (base.get(place) ?? Number.NaN));
  const highest = Math.max(0, ...[...heat.values()].filter(Number.isFinite));
  const strengths = (place: string): string[] => [
    ...(norms ? [norm.get(place)?.toPrecision(4) ?? '-'] : []),
    ...(base ? [ratio(norm.get(place), base.get(place))] : []),
    ...(norms && norms.shares.size > 0 ? percentages(norms.shares.get(place)) : []),
  ];
  const rows = report.blocks.map(({ place, modules, tensors, sizeBytes }) => [
    place,
    heatMark(heat.get(place) ?? 0, highest, color),
    ...[modules, tensors].map(String),
    size(sizeBytes),
    ...strengths(place),
  ]);
  const by = norms === undefined ? 'size' : base === undefined ? '‖ΔW‖' : '‖ΔW‖/‖W‖';
  return [
    `by ${by}   ${heatStrip(heat, color)}`,
    '',
    ...table([head(inspected), ...rows, all(inspected)], 2),
    ...notes(inspected),
  ];
}

function head({ norms, base }: Inspected): string[] {
  return [
    ...['block', '', 'modules', 'tensors', 'size'],
    ...(norms ? ['‖ΔW‖'] : []),
    ...(base ? ['‖ΔW‖/‖W‖'] : []),
    ...(norms && norms.shares.size > 0 ? SHARES.map((number) => `first ${number}`) : []),
  ];
}

function all({ report, norms, base }: Inspected): string[] {
  const sum = (pick: (block: (typeof report.blocks)[number]) => number): number =>
    report.blocks.reduce((total, block) => total + pick(block), 0);
  const strength = norms === undefined || norms.blocks.size === 0 ? undefined : whole(norms.blocks);
  return [
    ...['all', '', String(sum(({ modules }) => modules)), String(sum(({ tensors }) => tensors))],
    size(sum(({ sizeBytes }) => sizeBytes)),
    ...(norms ? [strength?.toPrecision(4) ?? '-'] : []),
    ...(base ? [ratio(strength, whole(base))] : []),
  ];
}

/** The norm of parts that have nothing in common. */
function whole(norms: ReadonlyMap<string, number>): number {
  return Math.sqrt([...norms.values()].reduce((sum, norm) => sum + norm ** 2, 0));
}

function ratio(norm: number | undefined, weight: number | undefined): string {
  return norm === undefined || weight === undefined || weight === 0 ? '-' : (norm / weight).toExponential(2);
}

function percentages(shares: readonly number[] | undefined): string[] {
  return SHARES.map((_, index) => {
    const share = shares?.[index];
    return share === undefined ? '-' : `${(100 * share).toFixed(0)} %`;
  });
}

function notes({ norms, normsFrom }: Inspected): string[] {
  if (norms === undefined) return [];
  const unmeasured = [...norms.unmeasured].map(([reason, { count: number, example }]) => {
    const names = number === 1 ? example : `${example} and ${number - 1} more`;
    const hint = reason === 'depends on the base weight' ? ' With the base as the second file it is measured.' : '';
    return `Not measured: ${count(number, 'module')} (${names}). Such a module ${reason}.${hint}`;
  });
  return ['', ...(norms.modules.size === 0 ? [] : [source(norms, normsFrom)]), ...unmeasured].map(cleanLine);
}

/** So many modules take seconds to be measured. */
const MANY = 100;

/** How the norms were had, since it takes a moment or a minute. */
function source({ modules, decomposed, shares }: Norms, normsFrom: string | undefined): string {
  const measured = modules.size - decomposed;
  if (normsFrom === undefined || decomposed === 0) {
    const hint = measured < MANY ? '' : ' They are there at once when lorac resize has decomposed the file before.';
    return `Norms of ${count(measured, 'module')} were measured here.${hint}`;
  }
  const rest = measured === 0 ? '' : `, and those of ${measured} more were measured`;
  const told =
    shares.size === 0
      ? ''
      : ` "first ${SHARES[1]}" is the share of ΔW² in the ${SHARES[1]} strongest directions of each module.`;
  return `Norms of ${count(decomposed, 'module')} are from the decomposition in "${normsFrom}"${rest}.${told}`;
}
