// The reporter for a terminal. Ink and React cost a seventh of a second to load, so they come only when something takes
// long enough to be watched; a run that is over before that is told in the same words, as lines.

import { styleText } from 'node:util';
import { entryLine, failureLines, type Line, looks, nameWidth, rowText, summaryLines, type Tone } from './lines.ts';
import type { Reporter, ReporterOptions } from './reporter.ts';
import type { Entry, View } from './view.ts';
import { ViewStore } from './view-store.ts';

const WATCHED_AFTER_MS = 300;

export function terminalReporter(options: ReporterOptions): Reporter {
  const store = new ViewStore(options.now, options.folder);
  let timer: NodeJS.Timeout | undefined;
  let screen: Promise<{ close(): Promise<void> }> | undefined;

  async function open() {
    const { openScreen } = await import('./screen.tsx');
    return openScreen(store, options);
  }

  return {
    listen(event) {
      store.add(event);
      if (event.type === 'node-started' || event.type === 'worker') {
        timer ??= setTimeout(() => {
          screen = open();
        }, WATCHED_AFTER_MS);
      }
    },
    async close() {
      clearTimeout(timer);
      if (screen !== undefined) await (await screen).close();
      else
        for (const line of allLines(store.view))
          options.stdout.write(`${line.indent === 0 ? '' : ' '.repeat(line.indent)}${styled(line, options.color)}\n`);
    },
  };
}

/** A run in which nothing happened is told in its summary alone. */
function allLines(view: View): Line[] {
  const isQuiet = view.history.every((entry) => entry.kind === 'row' && entry.row.state.status === 'fresh');
  return [...(isQuiet ? [] : view.history.flatMap((entry) => entryLines(entry, view))), ...summaryLines(view)];
}

function entryLines(entry: Entry, view: View): Line[] {
  if (entry.kind !== 'row') return [entryLine(entry)];
  const { tone } = looks[entry.row.state.status];
  return [{ text: rowText(entry.row, nameWidth(view, 32)), tone, indent: 0 }, ...failureLines(entry.row)];
}

const styles = {
  plain: [],
  quiet: ['dim'],
  good: ['green'],
  busy: ['cyan'],
  warning: ['yellow'],
  bad: ['red'],
} as const satisfies Record<Tone, unknown>;

function styled({ text, tone }: Line, color: boolean): string {
  return color ? styleText([...styles[tone]], text, { validateStream: false }) : text;
}
