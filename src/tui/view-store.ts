// The view of a run as it grows. Events come as fast as they like; whoever watches hears of them at most five times a
// second, since drawing costs far more than reducing, and once a second when nothing happens, so that clocks go on.

import type { RunEvent } from '../runtime/events.ts';
import { emptyView, reduce, type View } from './view.ts';

const PUBLISH_EVERY_MS = 200;
const TICK_EVERY_MS = 1000;

export interface Snapshot {
  readonly view: View;
  readonly nowMs: number;
}

export class ViewStore {
  #view: View;
  #published: Snapshot;
  #watchers = new Set<() => void>();
  #due: NodeJS.Timeout | undefined;
  #tick: NodeJS.Timeout | undefined;
  readonly #now: () => number;

  constructor(now: () => number, folder = '') {
    this.#now = now;
    this.#view = emptyView(now(), folder);
    this.#published = { view: this.#view, nowMs: now() };
  }

  /** The view of this moment, published or not. */
  get view(): View {
    return this.#view;
  }

  add(event: RunEvent): void {
    this.#view = reduce(this.#view, event, this.#now());
    if (this.#watchers.size > 0) this.#due ??= setTimeout(() => this.publish(), PUBLISH_EVERY_MS);
  }

  publish(): void {
    clearTimeout(this.#due);
    this.#due = undefined;
    this.#published = { view: this.#view, nowMs: this.#now() };
    for (const watcher of this.#watchers) watcher();
  }

  readonly snapshot = (): Snapshot => this.#published;

  readonly subscribe = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher);
    this.#tick ??= setInterval(() => this.publish(), TICK_EVERY_MS);
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size > 0) return;
      clearInterval(this.#tick);
      clearTimeout(this.#due);
      this.#tick = undefined;
      this.#due = undefined;
    };
  };
}
