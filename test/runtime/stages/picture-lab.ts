// One stage that renders pictures, in a folder with a LoRA, a checkpoint and prompts, built as the only node of a graph.

import { readdirSync, readFileSync } from 'node:fs';
import { Store } from '../../../src/runtime/cache/store.ts';
import type { RunEvent } from '../../../src/runtime/events.ts';
import { runBuild } from '../../../src/runtime/executor/build.ts';
import type { GraphNode, NodeId } from '../../../src/runtime/graph/graph.ts';
import type { Json } from '../../../src/runtime/graph/json.ts';
import type { Stage } from '../../../src/runtime/stage.ts';
import { settle } from '../../helpers/settle.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';
import { fiveModules, type TinyModule, writeLora } from './lora-files.ts';
import type { PictureWorker } from './picture-worker.ts';

export interface PictureLab extends Disposable {
  readonly folder: TemporaryFolder;
  run(
    worker: PictureWorker,
    options?: { readonly signal?: AbortSignal; readonly attributes?: { readonly [name: string]: Json } },
  ): Promise<PictureRun>;
  /** The names of the copies for the user. */
  shown(): readonly string[];
}

export interface PictureRun {
  readonly ok: boolean;
  readonly said: readonly string[];
  readonly events: readonly RunEvent[];
  /** By output. */
  readonly texts: { readonly [output: string]: string };
}

export async function pictureLab(
  stage: Stage,
  options: {
    readonly id: string;
    readonly attributes: { readonly [name: string]: Json };
    readonly prompts: string;
    /** Roles of the LoRAs, each with its modules. */
    readonly loras?: { readonly [role: string]: readonly TinyModule[] };
  },
): Promise<PictureLab> {
  const folder = temporaryFolder();
  folder.write({ 'pony.safetensors': 'a checkpoint', 'prompts.txt': options.prompts });
  const loras = Object.entries(options.loras ?? { lora: fiveModules });
  for (const [role, modules] of loras) await writeLora(folder.at(`${role}.safetensors`), modules);
  await settle();
  const files = Object.fromEntries(loras.map(([role]) => [role, folder.at(`${role}.safetensors`)]));
  const id = options.id as NodeId;
  const source = { path: folder.at('main.lora'), text: '' };
  const node: GraphNode = {
    id,
    origin: { source, start: 0, end: 0 },
    stage,
    attributes: options.attributes,
    settings: {},
    files: { ...files, checkpoint: folder.at('pony.safetensors'), prompts: folder.at('prompts.txt') },
    inputs: {},
  };
  return {
    folder,
    async run(worker, { signal, attributes = {} } = {}) {
      const events: RunEvent[] = [];
      const store = new Store(folder.at('.lorac'));
      const graph = { program: source.path, nodes: [{ ...node, attributes: { ...node.attributes, ...attributes } }] };
      const { ok } = await runBuild({
        graph,
        store,
        listener: (event) => events.push(event),
        startWorker: worker.start,
        ...(signal && { signal }),
      });
      const entry = ok ? await store.lookupEntry(store.history.get(`main.lora#${id}`) as never) : undefined;
      const texts = Object.entries(entry?.outputs ?? {}).map(([name, { path }]) => [name, readFileSync(path, 'utf8')]);
      const said = events.flatMap((event) => {
        if (event.type === 'node-failed') return [event.failure.message];
        return event.type === 'node-progress' && event.progress.type === 'log' ? [event.progress.message] : [];
      });
      return { ok, said, events, texts: Object.fromEntries(texts) };
    },
    shown: () => readdirSync(folder.at(`.lorac/runs/${options.id.split(':')[0]}/pictures`)).sort(),
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}
