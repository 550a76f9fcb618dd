// The Ink app of one run. Only this file and `components/` import Ink, and only `terminal-reporter.ts` imports this one.

import { render } from 'ink';
import { App } from './components/app.tsx';
import type { ReporterOptions } from './reporter.ts';
import type { ViewStore } from './view-store.ts';

export function openScreen(store: ViewStore, { stdout, color }: ReporterOptions): { close(): Promise<void> } {
  const app = render(<App store={store} color={color} />, {
    stdout,
    // Signals belong to the command line: it saves state first.
    exitOnCtrlC: false,
    maxFps: 10,
    incrementalRendering: true,
  });
  return {
    async close() {
      store.publish();
      await app.waitUntilRenderFlush();
      app.unmount();
      await app.waitUntilExit();
    },
  };
}
