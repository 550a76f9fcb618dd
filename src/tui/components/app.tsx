// The whole view, inline. What is over goes into <Static> and stays in the scrollback; below it a live block that is
// always lower than the terminal, so that redrawing it never scrolls.

import { Box, Static, useWindowSize } from 'ink';
import { useSyncExternalStore } from 'react';
import { entryLine, failureLines, type Line, nameWidth, summaryLines } from '../lines.ts';
import { duration } from '../units.ts';
import type { Entry, Row, View } from '../view.ts';
import type { ViewStore } from '../view-store.ts';
import { heightOf, NodeRow, RunningRow } from './node-row.tsx';
import { ColorContext, Toned } from './toned.tsx';

export interface AppProps {
  readonly store: Pick<ViewStore, 'subscribe' | 'snapshot'>;
  readonly color: boolean;
}

export function App({ store, color }: AppProps) {
  const { view, nowMs } = useSyncExternalStore(store.subscribe, store.snapshot);
  const { columns, rows } = useWindowSize();
  return <Screen view={view} nowMs={nowMs} color={color} columns={columns} lines={rows} />;
}

export interface ScreenProps {
  readonly view: View;
  readonly nowMs: number;
  readonly color: boolean;
  readonly columns: number;
  readonly lines: number;
}

/** Draws a view for a terminal of a given size. */
export function Screen({ view, nowMs, color, columns, lines }: ScreenProps) {
  const names = nameWidth(view, Math.floor(columns / 3));
  return (
    <ColorContext value={color}>
      <Static items={[...view.history]}>
        {(entry, index) => <EntryLines key={index} entry={entry} nameWidth={names} columns={columns} />}
      </Static>
      {view.outcome === undefined ? (
        <Live view={view} nowMs={nowMs} nameWidth={names} columns={columns} lines={lines} />
      ) : (
        <Lines lines={summaryLines(view)} columns={columns} />
      )}
    </ColorContext>
  );
}

function EntryLines({
  entry,
  ...sizes
}: {
  readonly entry: Entry;
  readonly nameWidth: number;
  readonly columns: number;
}) {
  if (entry.kind !== 'row') return <Lines lines={[entryLine(entry)]} columns={sizes.columns} />;
  return (
    <Box flexDirection="column">
      <NodeRow row={entry.row} {...sizes} />
      <Lines lines={failureLines(entry.row)} columns={sizes.columns} />
    </Box>
  );
}

function Lines({ lines, columns }: { readonly lines: readonly Line[]; readonly columns: number }) {
  return (
    <Box flexDirection="column" width={columns}>
      {lines.map(({ text, tone, indent }, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: lines have no other identity, and are never reordered.
        <Box key={index} paddingLeft={indent}>
          <Toned tone={tone} wrap="wrap">
            {text === '' ? ' ' : text}
          </Toned>
        </Box>
      ))}
    </Box>
  );
}

/** A line that wraps when the terminal gets narrower cannot be erased whole, so wide terminals are not used to the full. */
const LIVE_COLUMNS = 80;

function Live({ view, nowMs, lines, ...rest }: Omit<ScreenProps, 'color'> & { readonly nameWidth: number }) {
  const columns = Math.min(rest.columns, LIVE_COLUMNS);
  const sizes = { nameWidth: rest.nameWidth, columns };
  const running = view.rows.flatMap((row) => (row.state.status === 'running' ? [{ row, state: row.state }] : []));
  const waiting = view.rows.filter((row) => row.state.status === 'waiting');
  const footer = footerLines(view, nowMs);
  // One line stays free: a frame as tall as the screen would scroll it.
  const room = lines - 1 - footer.reduce((sum, line) => sum + heightOfLine(line, columns), 0);
  const details = running.reduce((sum, { state }) => sum + heightOf(state), 0) <= room;
  const taken = details ? running.reduce((sum, { state }) => sum + heightOf(state), 0) : running.length;
  const shown = fitting(waiting, room - taken);
  return (
    <Box flexDirection="column">
      {running.slice(0, Math.max(0, room)).map(({ row, state }) => (
        <RunningRow key={row.name} row={row} state={state} nowMs={nowMs} details={details} {...sizes} />
      ))}
      {shown.map((row) => (
        <NodeRow key={row.name} row={row} {...sizes} />
      ))}
      {shown.length < waiting.length && room > taken ? (
        <Toned tone="quiet">{`· … ${waiting.length - shown.length} more waiting`}</Toned>
      ) : null}
      {footer.slice(0, Math.max(1, lines - 1)).map(({ text, tone }) => (
        <Box key={text} width={columns}>
          <Toned tone={tone} wrap={wraps(tone) ? 'wrap' : 'truncate-end'}>
            {text}
          </Toned>
        </Box>
      ))}
    </Box>
  );
}

/** In the footer only what answers a key press is worth a second line. */
function wraps(tone: Line['tone']): boolean {
  return tone === 'warning';
}

/** Words rarely fill a line, so it counts as a little shorter than it is. */
function heightOfLine({ text, tone }: Line, columns: number): number {
  return wraps(tone) && text.length > columns ? Math.ceil(text.length / (columns * 0.8)) : 1;
}

/** All of them, or one fewer than there is room for: the last line then counts the rest. */
function fitting(rows: readonly Row[], room: number): readonly Row[] {
  return rows.length <= room ? rows : rows.slice(0, Math.max(0, room - 1));
}

function footerLines(view: View, nowMs: number): Line[] {
  const over = view.rows.filter((row) => row.state.status !== 'waiting' && row.state.status !== 'running').length;
  const parts = [view.program, `${over}/${view.rows.length} done`, duration(nowMs - view.startedMs)];
  const line = (text: string, tone: Line['tone']): Line => ({ text, tone, indent: 0 });
  return [
    line(parts.join(' · '), 'quiet'),
    ...(view.worker === undefined || view.worker.status === 'stopped'
      ? []
      : [line(`worker ${view.worker.status}: ${view.worker.message}`, 'quiet')]),
    view.stopping === undefined
      ? line('Ctrl-C stops, keeping what is done', 'quiet')
      : line(`${view.stopping} Ctrl-C again ends it now.`, 'warning'),
  ];
}
