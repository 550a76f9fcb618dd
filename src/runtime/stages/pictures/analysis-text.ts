// An analysis as text: a strip of heat for each thing that was measured, a table of the blocks, and what to keep.
// Every word that comes from a file is cleaned on its way.

import { cleanLine } from '../../../parser/clean-text.ts';
import { heatMark, heatStrip, table } from '../../inspect/heat.ts';
import type { AnalyzeReport } from '../analyze.ts';
import type { Ablation, BlockEffect } from './ablation-effects.ts';
import { isWorthSaying, percent, placeMark } from './ablation-grid.ts';
import type { BlockNumbers } from './analysis-numbers.ts';
import { promptLabel } from './sample-prompts.ts';

export interface TextOptions {
  readonly color: boolean;
  /** The LoRA's file, where it is one of the user's: the proposal is then a command, and a block of a program otherwise. */
  readonly file?: string;
}

/** All of it. */
export function reportLines(report: AnalyzeReport, { color, file }: TextOptions): readonly string[] {
  const sections = [
    [headline(report)],
    strips(report, color),
    blockTable(report, color),
    roundingLines(report),
    promptLines(report),
    proposalLines(report, file),
    report.notes.map(cleanLine),
  ];
  return sections.filter((lines) => lines.length > 0).flatMap((lines, index) => (index === 0 ? lines : ['', ...lines]));
}

/** What fits beside the progress of a build: the blocks that matter, and what to write. */
export function shortLines(report: AnalyzeReport): readonly string[] {
  const { ablation, proposal } = report;
  const notes = report.notes.map(cleanLine);
  if (ablation === null || proposal === null) {
    const strongest = report.blocks
      .filter(({ ratio }) => ratio !== null)
      .toSorted((a, b) => (b.ratio ?? 0) - (a.ratio ?? 0))
      .slice(0, SHOWN)
      .map(({ block, ratio }) => `${block} ${scientific(ratio)}`);
    return [...(strongest.length > 0 ? [`strongest by ‖ΔW‖/‖W‖: ${strongest.join(', ')}`] : []), ...notes];
  }
  const effects = new Map(ablation.blocks.map(({ block, effect }) => [block, effect]));
  const above = ablation.ranking.filter(
    (block, place) => place === 0 || (effects.get(block) ?? 0) > (ablation.floor ?? 0),
  );
  const first = above.slice(0, SHOWN).map((block) => `${block} ${percent(effects.get(block) ?? 0)}`);
  const most = `most of the effect: ${first.join(', ')}`;
  return [most, ...roundingLines(report), ...proposalLines(report, undefined), ...notes];
}

const SHOWN = 5;

function headline({ label, blocks, whole }: AnalyzeReport): string {
  const strength = whole.norm === null ? '' : `, ‖ΔW‖ ${whole.norm.toPrecision(4)}`;
  const ratio = whole.ratio === null ? '' : `, ‖ΔW‖/‖W‖ ${scientific(whole.ratio)}`;
  return cleanLine(`${label}: ${blocks.length} blocks, ${whole.modules} modules${strength}${ratio}`);
}

function strips({ blocks, ablation }: AnalyzeReport, color: boolean): string[] {
  const effects = ablation?.blocks ?? [];
  const rows: [string, [string, number][]][] = [
    ['‖ΔW‖/‖W‖', blocks.map(({ block, ratio }) => [block, ratio ?? 0])],
    ['only', effects.map(({ block, only }) => [block, only])],
    ['without', effects.map(({ block, without }) => [block, without])],
  ];
  return rows
    .filter(([, values]) => values.length > 0)
    .map(([name, values]) => `${name.padEnd(8)}  ${heatStrip(new Map(values), color)}`);
}

/** A row for each block. The marks go with what ranks it: its effect in pictures, else its strength. */
function blockTable({ blocks, ablation }: AnalyzeReport, color: boolean): string[] {
  const effects = new Map(ablation?.blocks.map((effect) => [effect.block, effect]));
  const heatOf = ({ block, ratio, norm }: BlockNumbers): number => {
    return effects.size > 0 ? (effects.get(block)?.effect ?? 0) : (ratio ?? norm ?? 0);
  };
  const highest = Math.max(0, ...blocks.map(heatOf));
  const seen = effects.size > 0 ? ['only', 'without', 'no.'] : [];
  const head = ['block', '', 'modules', '‖ΔW‖', '‖ΔW‖/‖W‖', 'rank 90 %', 'effective', ...seen];
  const rows = blocks.map((numbers) => {
    const { block, modules, norm, ratio, spectrum } = numbers;
    const effect = effects.get(block);
    return [
      block,
      heatMark(heatOf(numbers), highest, color),
      String(modules),
      norm?.toPrecision(4) ?? '-',
      scientific(ratio),
      spectrum === null ? '-' : String(spectrum.rank90),
      spectrum === null ? '-' : spectrum.effectiveRank.toFixed(1),
      ...(ablation && effects.size > 0 ? effectCells(effect, ablation) : []),
    ];
  });
  return table([head, ...rows], 2);
}

function effectCells(effect: BlockEffect | undefined, ablation: Ablation): string[] {
  if (effect === undefined) return ['-', '-', '-'];
  return [percent(effect.only), percent(effect.without), placeMark(ablation, effect.block)];
}

/** What of the shares is none of the LoRA's doing, where that is a percent or more. */
function roundingLines({ ablation }: AnalyzeReport): string[] {
  if (ablation === null || !isWorthSaying(ablation.floor)) return [];
  const places = ablation.unsure.length === 0 ? '' : ', and so may be the order of places with ~';
  const remedy = ablation.mixed_precision === 'fp32' ? '' : '; mixed precision fp32 lowers that';
  return [`shares below ${percent(ablation.floor)} are rounding${places}${remedy}`];
}

function promptLines({ ablation }: AnalyzeReport): string[] {
  if (ablation === null) return [];
  return [
    'how far all of it moves the picture of each prompt (0 nothing, 1 black against white)',
    ...ablation.prompts.map(({ prompt, distance }) => cleanLine(`  ${distance.toFixed(4)}  ${promptLabel(prompt)}`)),
  ];
}

function proposalLines({ ablation, proposal }: AnalyzeReport, file: string | undefined): string[] {
  if (ablation === null || proposal === null) return [];
  const { keep, share, wanted, chop, options } = proposal;
  if (chop === null || options === null) {
    const drowned =
      1 - (ablation.floor ?? 0) < wanted ? `, since rounding alone costs ${percent(ablation.floor ?? 0)}` : '';
    return [`keep all blocks: no fewer keep ${percent(wanted)} of the effect in these pictures${drowned}`];
  }
  const command = file === undefined ? chop : `lorac chop ${shellWord(file)} ${options.join(' ')}`;
  const what = `${keep.length} of ${ablation.blocks.length} blocks keep ${percent(share)} of the effect`;
  return [`${what} in these pictures (${percent(wanted)} wanted):`, `  ${command}`];
}

function scientific(value: number | null): string {
  return value === null ? '-' : value.toExponential(2);
}

/** As one would type it in a shell. */
function shellWord(text: string): string {
  const clean = cleanLine(text);
  return /^[\w./@%+=:,-]+$/.test(clean) ? clean : `'${clean.replaceAll("'", "'\\''")}'`;
}
