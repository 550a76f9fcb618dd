// What a linter tells, for people: each finding with its file and what to do, then the buckets, then what trainings do.

import { relative } from 'node:path';
import { styleText } from 'node:util';
import { cleanLine } from '../parser/clean-text.ts';
import { type Finding, findingCodes, findingKinds, type Severity } from '../runtime/dataset/lint/findings.ts';
import type { LintReport } from '../runtime/dataset/lint/lint.ts';
import { count } from '../tui/units.ts';

/** Of one kind of finding, and of buckets, so many are shown. */
const SHOWN = 20;

export function lintLines(report: LintReport, options: { readonly color: boolean; readonly folder: string }): string[] {
  const sections = findingCodes.flatMap((code) => {
    const found = report.findings.filter((one) => one.code === code);
    return found.length === 0 ? [] : findingLines(found, options);
  });
  return [headline(report), ...sections, ...bucketLines(report), ...trainingLines(report)];
}

function headline({ dataset, images, findings, lookedAt }: LintReport): string {
  const found = (['error', 'warning', 'note'] as const).flatMap((severity) => {
    const number = findings.filter((one) => one.severity === severity).length;
    return number === 0 ? [] : [count(number, severity)];
  });
  const unseen = lookedAt === 0 && images > 0 ? ' (pixels not looked at)' : '';
  return cleanLine(`${dataset}: ${count(images, 'image')}${unseen}, ${found.join(', ') || 'nothing odd'}`);
}

function findingLines(
  found: readonly Finding[],
  options: { readonly color: boolean; readonly folder: string },
): string[] {
  const [first] = found as [Finding];
  const { severity, advice } = findingKinds[first.code];
  const lines = found.slice(0, SHOWN).flatMap(({ files, message }) => {
    const [file, ...others] = files.map((path) => shortPath(path, options.folder));
    if (file === undefined) return [`    ${message}`];
    const shown = others.slice(0, SHOWN).map((other) => `      ${other}`);
    const rest = others.length > SHOWN ? [`      and ${others.length - SHOWN} more`] : [];
    return [`    ${file}: ${message}`, ...shown, ...rest];
  });
  const rest = found.length > SHOWN ? [`    and ${found.length - SHOWN} more; --json has all`] : [];
  const heading = `  ${colored(severity, severity, options.color)} ${first.code}: ${advice}`;
  return [heading, ...[...lines, ...rest].map(cleanLine)];
}

function bucketLines({ buckets }: LintReport): string[] {
  const most = Math.max(...buckets.map(({ visits }) => String(visits).length));
  const lines = buckets.slice(0, SHOWN).map(({ size, visits, images }) => {
    const cut = Math.max(...images.flatMap((image) => image.cut));
    const cropped = cut < 0.005 ? 'nothing is cut off' : `up to ${Math.round(100 * cut)} % of a side is cut off`;
    return `    ${size.join('x').padEnd(9)}  ${String(visits).padStart(most)} per epoch, ${cropped}`;
  });
  const rest = buckets.length > SHOWN ? [`    and ${buckets.length - SHOWN} more; --json has all`] : [];
  return buckets.length === 0 ? [] : [`  ${count(buckets.length, 'bucket')}`, ...lines, ...rest];
}

function trainingLines({ trainings }: LintReport): string[] {
  return trainings.map(({ name, steps, imagesPerStep, epochs, stepsPerEpoch }) =>
    cleanLine(
      `  ${name}: ${count(steps, 'step')} of ${count(imagesPerStep, 'image')} are ${plural(epochs, 'epoch')} of ${plural(stepsPerEpoch, 'step')}`,
    ),
  );
}

/** The most telling things in one line for each kind, for the start of a build. */
export function lintSummary({ dataset, findings }: LintReport, folder: string): string[] {
  return findingCodes.flatMap((code) => {
    const found = findings.filter((one) => one.code === code && one.severity === 'warning');
    const [first] = found;
    if (first === undefined) return [];
    const file = first.files[0] === undefined ? '' : `${shortPath(first.files[0], folder)}: `;
    const others =
      found.length > 1 ? ` ${found.length - 1} more ${found.length === 2 ? 'is' : 'are'} like it: lorac lint.` : '';
    return [`The dataset "${dataset}": ${file}${first.message}${others}`];
  });
}

function shortPath(path: string, folder: string): string {
  const inside = relative(folder, path);
  return inside.startsWith('..') ? path : inside;
}

function plural(value: number, word: string): string {
  return count(value >= 10 ? Math.round(value) : Number(value.toPrecision(2)), word);
}

const colors = { error: 'red', warning: 'yellow', note: 'cyan' } as const;

function colored(severity: Severity, text: string, color: boolean): string {
  return color ? styleText(colors[severity], text, { validateStream: false }) : text;
}
