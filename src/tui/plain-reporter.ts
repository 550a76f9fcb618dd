// One line per event, for pipes, files and CI logs. Work that goes on is told every few seconds, not at every step.

import { cleanLine } from '../parser/clean-text.ts';
import type { RunEvent } from '../runtime/events.ts';
import {
  entryLine,
  failureLines,
  type Line,
  lossText,
  nameWidth,
  progressText,
  ratesText,
  rowText,
  summaryLines,
} from './lines.ts';
import type { Reporter, ReporterOptions } from './reporter.ts';
import { count } from './units.ts';
import { emptyView, type Row, reduce, type View, WITHIN_STEPS } from './view.ts';

const PROGRESS_EVERY_MS = 5_000;
const STEPS_EVERY_MS = 10_000;
const NAME_WIDTH = 32;

export function plainReporter({
  stdout,
  folder,
  now,
}: Pick<ReporterOptions, 'folder' | 'now'> & { readonly stdout: Pick<NodeJS.WriteStream, 'write'> }): Reporter {
  let view = emptyView(now(), folder);
  /** When each node last said how far it is. */
  const toldAtMs = new Map<string, number>();
  const print = (line: string) => stdout.write(`${line}\n`);

  function listen(event: RunEvent): void {
    const before = view;
    view = reduce(view, event, now());
    for (const line of linesOf(event, before)) print(line);
  }

  function linesOf(event: RunEvent, before: View): string[] {
    switch (event.type) {
      case 'run-started':
        return [`building ${view.program} (${count(view.rows.length, 'stage')})`];
      case 'node-started':
        toldAtMs.set(event.node, now());
        return rowNamed(view, event.node).map((row) => rowText(row, width()));
      case 'node-progress': {
        const { type } = event.progress;
        if (type === 'progress' || type === 'step') {
          return isDue(event) ? rowNamed(view, event.node).map((row) => workText(row, type)) : [];
        }
        // A warning becomes an entry of the history; what else it says is a line of its own.
        if (view.history.length > before.history.length) return newEntries(before);
        const [was] = rowNamed(before, event.node).map(latest);
        return rowNamed(view, event.node).flatMap((row) =>
          latest(row) === was ? [] : [`  ${row.name}: ${latest(row)}`],
        );
      }
      case 'worker':
        return sameWorker(view, before) ? [] : [`worker ${event.status}: ${cleanLine(event.message)}`];
      case 'stopping':
        return view.stopping === undefined ? [] : [view.stopping];
      case 'finished':
        return summaryLines(view).map(text);
      default:
        return newEntries(before);
    }
  }

  function newEntries(before: View): string[] {
    return view.history
      .slice(before.history.length)
      .flatMap((entry) =>
        entry.kind === 'row'
          ? [rowText(entry.row, width()), ...failureLines(entry.row).map(text)]
          : [text(entryLine(entry))],
      );
  }

  function width(): number {
    return nameWidth(view, NAME_WIDTH);
  }

  /** The first and the last step are always told. */
  function isDue(event: Extract<RunEvent, { type: 'node-progress' }>): boolean {
    const { node, progress } = event;
    // A line for a step is enough.
    if (progress.type === 'progress' && progress.unit === WITHIN_STEPS) return false;
    const isStep = progress.type === 'step';
    const last = toldAtMs.get(node) ?? Number.NEGATIVE_INFINITY;
    const isEnd = isStep && (progress.step === 1 || progress.step === progress.total);
    if (!isEnd && now() - last < (isStep ? STEPS_EVERY_MS : PROGRESS_EVERY_MS)) return false;
    toldAtMs.set(node, now());
    return true;
  }

  function workText({ name, state }: Row, type: 'progress' | 'step'): string {
    if (state.status !== 'running') return '';
    const { work, training } = state;
    const parts: (string | undefined)[] = [];
    if (type === 'step' && training !== undefined) {
      parts.push(progressText(training.steps, now()), `loss ${lossText(training)}`, ratesText(training));
    } else if (work !== undefined) {
      parts.push(progressText(work, now()), work.note);
    }
    return `  ${name}: ${parts.filter((part) => part !== undefined).join(' · ')}`;
  }

  return { listen, close: async () => {} };
}

function rowNamed(view: View, name: string): Row[] {
  return view.rows.filter((row) => row.name === cleanLine(name));
}

function sameWorker({ worker }: View, before: View): boolean {
  return worker?.status === before.worker?.status && worker?.message === before.worker?.message;
}

function latest({ state }: Row): string | undefined {
  return state.status === 'running' ? state.latest : undefined;
}

function text({ indent, text }: Line): string {
  return `${' '.repeat(indent)}${text}`;
}
