// One node: a line for itself and, while it runs, a few for what it is doing.

import { Box } from 'ink';
import { looks, lossText, note, progressText, ratesText } from '../lines.ts';
import { sparkline } from '../series.ts';
import { shortName } from '../short-name.ts';
import { duration } from '../units.ts';
import { type Progress, type Row, type Running, type Training, withinText } from '../view.ts';
import { Toned } from './toned.tsx';

export interface NodeRowProps {
  readonly row: Row;
  readonly nameWidth: number;
  readonly columns: number;
}

export function NodeRow({ row, nameWidth, columns, nowMs }: NodeRowProps & { readonly nowMs?: number }) {
  const { mark, tone } = looks[row.state.status];
  const runningFor =
    row.state.status === 'running' && nowMs !== undefined ? [duration(nowMs - row.state.startedMs)] : [];
  return (
    <Box gap={1} width={columns}>
      <Toned tone={tone}>{mark}</Toned>
      <Box width={nameWidth} flexShrink={0}>
        <Toned wrap="truncate-middle" tone={row.state.status === 'waiting' ? 'quiet' : 'plain'}>
          {shortName(row.name, nameWidth)}
        </Toned>
      </Box>
      <Box width={8} flexShrink={0}>
        <Toned tone={tone}>{row.state.status}</Toned>
      </Box>
      <Toned tone="quiet">{[...runningFor, note(row.state)].join(' · ')}</Toned>
    </Box>
  );
}

export interface RunningRowProps extends NodeRowProps {
  readonly state: Running;
  readonly nowMs: number;
  readonly details: boolean;
}

export function RunningRow({ row, state, nowMs, details, nameWidth, columns }: RunningRowProps) {
  const { work, training, latest } = state;
  const inner = columns - 2;
  return (
    <Box flexDirection="column">
      <NodeRow row={row} nameWidth={nameWidth} columns={columns} nowMs={nowMs} />
      {details ? (
        <Box flexDirection="column" paddingLeft={2}>
          {training === undefined ? null : <TrainingLines training={training} nowMs={nowMs} columns={inner} />}
          {isOver(work) ? (
            <WithinLine training={training} />
          ) : (
            <WorkLine work={work} training={training} nowMs={nowMs} columns={inner} />
          )}
          {latest === undefined ? null : <Toned tone="quiet">{latest}</Toned>}
        </Box>
      ) : null}
    </Box>
  );
}

function isOver(work: Progress | undefined): work is undefined {
  return work === undefined || work.done >= work.total;
}

/** How many lines `RunningRow` takes with its details. */
export function heightOf({ work, training, latest }: Running): number {
  const hasWork = !isOver(work) || training?.within !== undefined;
  return 1 + (training === undefined ? 0 : 2) + (hasWork ? 1 : 0) + (latest === undefined ? 0 : 1);
}

/** Between two steps, what is done now: the steps have a bar already. */
function WorkLine({
  work,
  training,
  ...rest
}: {
  readonly work: Progress;
  readonly training: Training | undefined;
  readonly nowMs: number;
  readonly columns: number;
}) {
  if (training === undefined) return <ProgressLine progress={work} within={0} {...rest} />;
  return <Toned>{work.note ?? progressText(work, rest.nowMs)}</Toned>;
}

/** Where the step that is under way stands. */
function WithinLine({ training }: { readonly training: Training | undefined }) {
  return training?.within === undefined ? null : <Toned>{withinText(training.steps.done, training.within)}</Toned>;
}

function ProgressLine({
  progress,
  within,
  nowMs,
  columns,
}: {
  readonly progress: Progress;
  /** The part of the next one that is done. */
  readonly within: number;
  readonly nowMs: number;
  readonly columns: number;
}) {
  const text = [progressText(progress, nowMs), progress.note].filter((part) => part !== undefined).join(' · ');
  return (
    <Box gap={1} width={columns}>
      <Bar done={progress.done + within} total={progress.total} width={barWidth(columns)} />
      <Toned>{text}</Toned>
    </Box>
  );
}

function TrainingLines({
  training,
  nowMs,
  columns,
}: {
  readonly training: Training;
  readonly nowMs: number;
  readonly columns: number;
}) {
  const { steps, within } = training;
  return (
    <>
      <ProgressLine
        progress={steps}
        within={within === undefined ? 0 : within.done / within.total}
        nowMs={nowMs}
        columns={columns}
      />
      <Box gap={1} width={columns}>
        <Box flexShrink={0}>
          <Toned tone="busy">{sparkline(training.losses, barWidth(columns)).padEnd(barWidth(columns))}</Toned>
        </Box>
        <Toned>{`loss ${lossText(training)} · lr ${ratesText(training)}`}</Toned>
      </Box>
    </>
  );
}

function Bar({ done, total, width }: { readonly done: number; readonly total: number; readonly width: number }) {
  const full = total <= 0 ? 0 : Math.min(width, Math.round((done / total) * width));
  return (
    <Box flexShrink={0}>
      <Toned tone="busy">{'█'.repeat(full)}</Toned>
      <Toned tone="quiet">{'░'.repeat(width - full)}</Toned>
    </Box>
  );
}

function barWidth(columns: number): number {
  return Math.max(6, Math.min(24, Math.floor(columns / 4)));
}
