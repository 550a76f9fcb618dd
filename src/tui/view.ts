// What there is to show of a run, as plain data: `reduce(view, event)` is the only thing that makes a new one.
// Times are milliseconds of the clock that the caller passes in. Text of others is cleaned here, on its way in.

import { cleanLine, cleanLines } from '../parser/clean-text.ts';
import { unreachable } from '../parser/unreachable.ts';
import type { Failure, NodeSummary, RunEvent, StageProgress, StaleReason } from '../runtime/events.ts';
import { addTo, emptySeries, type Series } from './series.ts';

export interface View {
  /** Where the user is: what lies in it is told from there. Empty: nothing does. */
  readonly folder: string;
  readonly program: string;
  readonly startedMs: number;
  /** Every node of the run, in the graph's order. */
  readonly rows: readonly Row[];
  /** What is over, in the order in which it ended. Entries never change, so a terminal can keep them in its scrollback. */
  readonly history: readonly Entry[];
  readonly worker: WorkerLine | undefined;
  /** What was said when the user asked to stop. */
  readonly stopping: string | undefined;
  readonly placed: readonly Placed[];
  /** Folders with pictures made from samples, in the order of their first picture. */
  readonly pictureFolders: readonly string[];
  /** The pictures of each training as one. */
  readonly montages: readonly string[];
  readonly outcome: Outcome | undefined;
}

export interface Row {
  readonly name: string;
  readonly stage: string;
  readonly origin: NodeSummary['origin'];
  readonly state: RowState;
}

export type RowState =
  | { readonly status: 'waiting' }
  | Running
  | { readonly status: 'fresh'; readonly savedMs: number | undefined }
  | {
      readonly status: 'computed';
      readonly because: StaleReason;
      readonly elapsedMs: number;
      readonly training: Training | undefined;
    }
  | { readonly status: 'failed'; readonly failure: Failure; readonly elapsedMs: number }
  /** The user stopped the run while it was at work. */
  | { readonly status: 'stopped'; readonly elapsedMs: number }
  | { readonly status: 'skipped'; readonly cause: string };

export type Status = RowState['status'];

export interface Running {
  readonly status: 'running';
  readonly because: StaleReason;
  readonly startedMs: number;
  readonly work: Progress | undefined;
  readonly training: Training | undefined;
  /** The last thing it logged or finished. */
  readonly latest: string | undefined;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly unit: string;
  readonly note: string | undefined;
  /** Where this run began to count, and when: what came before (a resumed training) says nothing about the speed. */
  readonly first: { readonly done: number; readonly atMs: number };
  readonly atMs: number;
}

export interface Training {
  readonly steps: Progress;
  /** How much of the step after `steps.done` is under way, where steps take long enough to tell. */
  readonly within: { readonly done: number; readonly total: number } | undefined;
  readonly loss: number;
  readonly losses: Series;
  readonly learningRates: { readonly [group: string]: number };
}

/** The unit of what a training tells from within a step. */
export const WITHIN_STEPS = 'micro-batches';

export type Entry =
  | { readonly kind: 'row'; readonly row: Row }
  | {
      readonly kind: 'message';
      readonly level: 'info' | 'result' | 'warning';
      readonly from: string | undefined;
      readonly message: string;
    };

export interface Placed {
  readonly node: string;
  readonly path: string;
  readonly sizeBytes: number;
}

export interface WorkerLine {
  readonly status: Extract<RunEvent, { type: 'worker' }>['status'];
  readonly message: string;
}

export type Outcome = Omit<Extract<RunEvent, { type: 'finished' }>, 'type'>;

export function emptyView(nowMs: number, folder = ''): View {
  return {
    folder,
    program: '',
    startedMs: nowMs,
    rows: [],
    history: [],
    worker: undefined,
    stopping: undefined,
    placed: [],
    pictureFolders: [],
    montages: [],
    outcome: undefined,
  };
}

export function reduce(view: View, event: RunEvent, nowMs: number): View {
  switch (event.type) {
    case 'run-started':
      return { ...view, program: cleanLine(event.program), startedMs: nowMs, rows: event.nodes.map(waitingRow) };
    case 'node-started':
      return withState(view, event.node, () => ({
        status: 'running',
        because: event.because,
        startedMs: nowMs,
        work: undefined,
        training: undefined,
        latest: undefined,
      }));
    case 'node-progress':
      return withProgress(view, event.node, event.progress, nowMs);
    case 'node-fresh':
      return ended(view, event.node, () => ({ status: 'fresh', savedMs: event.savedMs }));
    case 'node-computed': {
      const { because, elapsedMs } = event;
      return ended(view, event.node, (before) => ({
        status: 'computed',
        because,
        elapsedMs,
        training: trainingOf(before),
      }));
    }
    case 'node-failed': {
      const failure = cleanFailure(event.failure);
      const elapsedMs = (before: RowState) => (before.status === 'running' ? nowMs - before.startedMs : 0);
      if (failure.kind === 'cancelled') {
        return ended(view, event.node, (before) => ({ status: 'stopped', elapsedMs: elapsedMs(before) }));
      }
      return ended(view, event.node, (before) => ({ status: 'failed', failure, elapsedMs: elapsedMs(before) }));
    }
    case 'node-skipped':
      return ended(view, event.node, () => ({ status: 'skipped', cause: cleanLine(event.cause) }));
    case 'worker':
      return { ...view, worker: { status: event.status, message: cleanLine(event.message) } };
    case 'message':
      return withEntry(view, {
        kind: 'message',
        level: event.level,
        from: undefined,
        message: cleanLine(event.message),
      });
    case 'placed': {
      const path = fromFolder(view.folder, event.path);
      const placed = { node: cleanLine(event.node), path, sizeBytes: event.sizeBytes };
      return { ...view, placed: [...view.placed, placed] };
    }
    case 'stopping':
      return { ...view, stopping: cleanLine(event.message) };
    case 'finished': {
      const { type: _, ...outcome } = event;
      return { ...view, outcome };
    }
    default:
      return unreachable(event);
  }
}

function waitingRow(node: NodeSummary): Row {
  const origin = { ...node.origin, path: cleanLine(node.origin.path) };
  return { name: cleanLine(node.node), stage: node.stage, origin, state: { status: 'waiting' } };
}

function withState(view: View, node: string, next: (before: RowState) => RowState): View {
  const name = cleanLine(node);
  return { ...view, rows: view.rows.map((row) => (row.name === name ? { ...row, state: next(row.state) } : row)) };
}

function ended(view: View, node: string, next: (before: RowState) => RowState): View {
  const after = withState(view, node, next);
  const row = after.rows.find((row) => row.name === cleanLine(node));
  return row === undefined ? after : withEntry(after, { kind: 'row', row });
}

function withEntry(view: View, entry: Entry): View {
  return { ...view, history: [...view.history, entry] };
}

function trainingOf(state: RowState): Training | undefined {
  return state.status === 'running' ? state.training : undefined;
}

function withProgress(view: View, node: string, progress: StageProgress, nowMs: number): View {
  if (progress.type === 'log' && progress.level !== 'info') {
    return withEntry(view, {
      kind: 'message',
      level: progress.level,
      from: cleanLine(node),
      message: cleanLine(progress.message),
    });
  }
  const after = withState(view, node, (state) => (state.status === 'running' ? runOn(state, progress, nowMs) : state));
  if (progress.type !== 'artifact') return after;
  const path = fromFolder(view.folder, progress.path);
  if (progress.name === 'montage') return withMontage(after, path);
  // A grid is one picture made of others, and who makes it says where it is.
  return progress.name === 'grid' ? after : withPictures(after, path);
}

function runOn(state: Running, progress: StageProgress, nowMs: number): Running {
  switch (progress.type) {
    case 'progress': {
      const { done, total } = progress;
      const unit = cleanLine(progress.unit);
      if (unit === WITHIN_STEPS && state.training !== undefined) {
        return { ...state, work: undefined, training: { ...state.training, within: { done, total } } };
      }
      const note = progress.note === undefined ? undefined : cleanLine(progress.note);
      if (unit === WITHIN_STEPS && state.work?.unit === 'steps') {
        // Before the first step there are no losses yet to stand beside.
        return { ...state, work: { ...state.work, note: withinText(state.work.done, { done, total }) } };
      }
      // Another unit is another piece of work, with a speed of its own.
      const before = state.work?.unit === unit && state.work.done <= done ? state.work : undefined;
      return {
        ...state,
        work: { done, total, unit, note, first: before?.first ?? { done, atMs: nowMs }, atMs: nowMs },
      };
    }
    case 'step': {
      const { step, total, loss, learningRates } = progress;
      // The first step told how long it took, so the clock can be set back to its beginning.
      const first = state.training?.steps.first ?? { done: step - 1, atMs: nowMs - progress.elapsedMs };
      const steps = { done: step, total, unit: 'steps', note: undefined, first, atMs: nowMs };
      const losses = addTo(state.training?.losses ?? emptySeries, loss);
      // The next step takes as long, so the line for it stays where it is.
      const before = state.training?.within;
      const within = before && step < total ? { done: 0, total: before.total } : undefined;
      return { ...state, work: undefined, training: { steps, within, loss, losses, learningRates } };
    }
    case 'artifact':
      // Of interest while training (a saved step, a sample); encoded images are many, and counted anyway, and what is
      // made of the samples comes with them.
      return state.training === undefined || progress.name === 'montage' || progress.name === 'animation'
        ? state
        : { ...state, latest: `wrote ${cleanLine(progress.path).replace(/^.*[/\\]/, '')}` };
    case 'log':
      return { ...state, latest: cleanLine(progress.message) };
    default:
      return unreachable(progress);
  }
}

function withPictures(view: View, path: string): View {
  const folder = /^(.*)[/\\][^/\\]+\.png$/i.exec(path)?.[1];
  if (folder === undefined || view.pictureFolders.includes(folder)) return view;
  return { ...view, pictureFolders: [...view.pictureFolders, folder] };
}

function withMontage(view: View, path: string): View {
  return view.montages.includes(path) ? view : { ...view, montages: [...view.montages, path] };
}

/** As one would type it there. */
function fromFolder(folder: string, path: string): string {
  const isInside = folder !== '' && path.startsWith(folder) && /^[\\/]./.test(path.slice(folder.length));
  return cleanLine(isInside ? path.slice(folder.length + 1) : path);
}

function cleanFailure(failure: Failure): Failure {
  return {
    kind: failure.kind,
    message: cleanLines(failure.message).join('\n'),
    hint: failure.hint === undefined ? undefined : cleanLines(failure.hint).join('\n'),
    problems: failure.problems.map(({ path, message }) => ({ path: cleanLine(path), message: cleanLine(message) })),
    logTail: failure.logTail.flatMap(cleanLines),
  };
}

/** "step 35: micro-batch 3 of 6". */
export function withinText(steps: number, { done, total }: { readonly done: number; readonly total: number }): string {
  return `step ${steps + 1}: micro-batch ${Math.min(done + 1, total)} of ${total}`;
}

/** How long the rest will take at the speed so far, or undefined while nothing can be said. */
export function remainingMs(progress: Progress, nowMs: number): number | undefined {
  const done = progress.done - progress.first.done;
  const spent = progress.atMs - progress.first.atMs;
  if (done < 2 || spent <= 0 || progress.total <= progress.done) return undefined;
  return Math.max(0, (spent / done) * (progress.total - progress.done) - (nowMs - progress.atMs));
}
