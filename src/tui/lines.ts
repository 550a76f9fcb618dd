// What a view says, as lines of text with a tone. The Ink and the plain reporter both say it in these words;
// Ink adds columns, colour and movement.

import { unreachable } from '../parser/unreachable.ts';
import { reasonInWords } from './reason.ts';
import { count, duration, rate, size } from './units.ts';
import type { Entry, Progress, Row, RowState, Status, Training, View } from './view.ts';
import { remainingMs } from './view.ts';

export type Tone = 'plain' | 'quiet' | 'good' | 'busy' | 'warning' | 'bad';

export interface Line {
  readonly text: string;
  readonly tone: Tone;
  /** In spaces. Lines that wrap keep it. */
  readonly indent: number;
}

/** A mark and a word as well as a tone: a row still reads in a log, or with colour off. */
export const looks = {
  waiting: { mark: '·', tone: 'quiet' },
  running: { mark: '›', tone: 'busy' },
  fresh: { mark: '=', tone: 'good' },
  computed: { mark: '+', tone: 'good' },
  failed: { mark: '✗', tone: 'bad' },
  stopped: { mark: '!', tone: 'warning' },
  skipped: { mark: '-', tone: 'warning' },
} as const satisfies Record<Status, { mark: string; tone: Tone }>;

const WORTH_SAYING_MS = 1000;

/** What stands behind a row's name and status. */
export function note(state: RowState): string {
  switch (state.status) {
    case 'waiting':
      return '';
    case 'running':
      return reasonInWords(state.because);
    case 'fresh':
      return state.savedMs === undefined || state.savedMs < WORTH_SAYING_MS ? '' : `saves ${duration(state.savedMs)}`;
    case 'computed': {
      const loss = state.training === undefined ? '' : ` · loss ${lossText(state.training)}`;
      return `${duration(state.elapsedMs)}${loss} · ${reasonInWords(state.because)}`;
    }
    case 'stopped':
    case 'failed':
      return `after ${duration(state.elapsedMs)}`;
    case 'skipped':
      return `needs ${state.cause}`;
    default:
      return unreachable(state);
  }
}

/** Wide enough for every name of the run, up to a limit. */
export function nameWidth(view: View, limit: number): number {
  return Math.min(limit, Math.max(0, ...view.rows.map((row) => row.name.length)));
}

/** One row on one line, where there are no columns to draw. */
export function rowText({ name, state }: Row, width: number): string {
  return `${looks[state.status].mark} ${name.padEnd(width)}  ${state.status.padEnd(8)}  ${note(state)}`.trimEnd();
}

export function lossText(training: Training): string {
  return Number.isFinite(training.loss) ? training.loss.toPrecision(4) : String(training.loss);
}

/** "unet 3.0e-4 · text encoder 1.0e-4". */
export function ratesText(training: Training): string {
  return Object.entries(training.learningRates)
    .map(([group, value]) => `${group.replaceAll('_', ' ')} ${rate(value)}`)
    .join(' · ');
}

/** "34/60 step · 1.2 s each · about 31 s left". */
export function progressText(progress: Progress, nowMs: number): string {
  const { done, total, unit, first } = progress;
  const amount = unit === 'bytes' ? `${size(done)} of ${size(total)}` : `${done}/${total} ${unit}`;
  const parts = [amount];
  const here = done - first.done;
  const spent = progress.atMs - first.atMs;
  if (unit === 'bytes' && here > 0 && spent >= 500) parts.push(`${size((here / spent) * 1000)} a second`);
  else if (here >= 2 && spent / here >= 500) parts.push(`${duration(spent / here)} each`);
  const left = remainingMs(progress, nowMs);
  if (left !== undefined && left >= 1000) parts.push(`about ${duration(left)} left`);
  return parts.join(' · ');
}

export function place(origin: Row['origin']): string {
  return `${origin.path}:${origin.line}:${origin.column}`;
}

const PROBLEMS_SHOWN = 20;
const LOG_SHOWN = 10;

/** Everything about a failure but its row: what, which files, what to do, who asked for it, the log's end. */
export function failureLines(row: Row): Line[] {
  if (row.state.status !== 'failed') return [];
  const { failure } = row.state;
  const at =
    (indent: number, tone: Tone) =>
    (text: string): Line => ({ text, tone, indent });
  const told = failure.problems.filter(({ path, message }) => !failure.message.includes(`${path}: ${message}`));
  const problems = told.slice(0, PROBLEMS_SHOWN).map(({ path, message }) => `${path}: ${message}`);
  const hidden = told.length - problems.length;
  if (hidden > 0) problems.push(`… and ${count(hidden, 'more file')}`);
  const log = failure.logTail.slice(-LOG_SHOWN);
  return [
    ...failure.message.split('\n').map(at(2, 'bad')),
    ...problems.map(at(4, 'plain')),
    ...(failure.hint === undefined ? [] : `hint: ${failure.hint}`.split('\n').map(at(2, 'plain'))),
    at(2, 'quiet')(`asked for at ${place(row.origin)}`),
    ...(log.length === 0 ? [] : [at(2, 'quiet')('the last lines of its log:'), ...log.map(at(4, 'quiet'))]),
  ];
}

/** A message. Rows have columns, so each reporter draws them itself. */
export function entryLine({ from, level, message }: Exclude<Entry, { kind: 'row' }>): Line {
  const isWarning = level === 'warning';
  const text = `${isWarning ? 'warning: ' : ''}${from === undefined ? '' : `${from}: `}${message}`;
  return { text, tone: ({ info: 'quiet', result: 'plain', warning: 'warning' } as const)[level], indent: 0 };
}

/** What a run leaves behind, said when it is over: counts, files, pictures, and what failed once more. */
export function summaryLines(view: View): Line[] {
  const { outcome } = view;
  if (outcome === undefined) return [];
  const lines: Line[] = [headline(outcome)];
  for (const row of view.rows) {
    if (row.state.status !== 'failed') continue;
    const message = row.state.failure.message.split('\n')[0] ?? '';
    lines.push({ text: `${row.name} (${place(row.origin)}): ${message}`, tone: 'bad', indent: 2 });
  }
  for (const { path, sizeBytes } of view.placed) {
    lines.push({ text: `saved ${path} (${size(sizeBytes)})`, tone: 'plain', indent: 2 });
  }
  for (const folder of view.pictureFolders) lines.push({ text: `pictures are in ${folder}`, tone: 'plain', indent: 2 });
  for (const path of view.montages) lines.push({ text: `all steps side by side: ${path}`, tone: 'plain', indent: 2 });
  return lines;
}

function headline(outcome: NonNullable<View['outcome']>): Line {
  const counts = (['computed', 'fresh', 'failed', 'skipped'] as const)
    .filter((status) => outcome[status].length > 0)
    .map((status) => `${outcome[status].length} ${status}`)
    .join(', ');
  const time = duration(outcome.elapsedMs);
  if (outcome.interrupted) {
    return {
      text: `Stopped after ${time}: ${counts === '' ? 'nothing computed yet' : counts}. What is done is kept, and the next build goes on from there.`,
      tone: 'warning',
      indent: 0,
    };
  }
  if (!outcome.ok) return { text: `Failed after ${time}: ${counts}.`, tone: 'bad', indent: 0 };
  if (outcome.computed.length === 0) {
    return {
      text: `Nothing to do: ${count(outcome.fresh.length, 'stage')} fresh, in ${time}.`,
      tone: 'good',
      indent: 0,
    };
  }
  return { text: `Done in ${time}: ${counts}.`, tone: 'good', indent: 0 };
}
