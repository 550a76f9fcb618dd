// What a LoRA file is, from its header and its scalars alone: a few milliseconds, however large the file.

import type { SafetensorsFile } from '../safetensors/file.ts';
import { readAdapterSettings } from '../sdxl/adapter-settings.ts';
import { blockLayout, layoutLines } from '../sdxl/block-layout.ts';
import { groupModules } from '../sdxl/lora.ts';
import { sdxlTargets } from '../sdxl/standard.ts';
import { type BaseGuess, guessBase } from './base-guess.ts';
import { type Kind, type ModuleFacts, moduleFacts, readScalars } from './module-facts.ts';

export interface LoraReport {
  readonly path: string;
  readonly sizeBytes: number;
  readonly headerBytes: number;
  readonly base: BaseGuess;
  readonly textEncoders: readonly TextEncoderFacts[];
  /** How many modules are spelt in which way, and are of which family; tensors by type. */
  readonly schemes: ReadonlyMap<string, number>;
  readonly families: ReadonlyMap<string, number>;
  readonly dtypes: ReadonlyMap<string, number>;
  readonly ranks: readonly RankFacts[];
  readonly blocks: readonly BlockFacts[];
  /** As chop_blocks prints it. */
  readonly layout: readonly string[];
  readonly modules: readonly ModuleFacts[];
  /** Tensors that belong to no module. */
  readonly strangers: readonly string[];
  readonly metadata: ReadonlyMap<string, string> | undefined;
}

export interface TextEncoderFacts {
  readonly place: string;
  readonly modules: number;
  readonly covers: string;
}

/** What modules of one kind have for ranks and scales. */
export interface RankFacts {
  readonly kind: Kind;
  readonly modules: number;
  /** How many of them are of families without a rank. */
  readonly unranked: number;
  readonly ranks: readonly number[];
  /** Different alphas, as stored; `undefined` among them for modules without one. */
  readonly alphas: readonly (number | undefined)[];
  readonly scales: readonly number[];
}

export interface BlockFacts {
  readonly place: string;
  readonly modules: number;
  readonly tensors: number;
  readonly sizeBytes: number;
}

export function reportLora(file: SafetensorsFile): LoraReport {
  const { header, path, sizeBytes } = file;
  const content = groupModules(header.tensors.keys(), header.tensors);
  const targets = sdxlTargets();
  const scalars = readScalars(file, content.modules);
  const settings = readAdapterSettings(header.metadata);
  const modules = content.modules.map((module) => moduleFacts(module, { file, scalars, settings, targets }));
  return {
    path,
    sizeBytes,
    headerBytes: header.dataStart - 8,
    base: guessBase(modules, { network: content.network, targets, metadata: header.metadata }),
    textEncoders: textEncoders(modules),
    schemes: tally(modules.map(({ name }) => name?.scheme ?? 'unknown')),
    families: tally(modules.map(({ family }) => family)),
    dtypes: tally([...header.tensors.values()].map(({ dtype }) => dtype)),
    ranks: rankFacts(modules),
    blocks: blockFacts(modules),
    layout: layoutLines(blockLayout(content)),
    modules,
    strangers: content.strangers,
    metadata: header.metadata,
  };
}

/** The most frequent first. */
function tally(words: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return new Map([...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)));
}

/** Two variants of preset `full` are about: with the attention of the text encoders, and without. */
function textEncoders(modules: readonly ModuleFacts[]): readonly TextEncoderFacts[] {
  return ['TE', 'TE1', 'TE2'].flatMap((place) => {
    const inside = modules.filter((module) => module.place === place);
    if (inside.length === 0) return [];
    const attention = inside.filter(({ key }) => key.includes('_self_attn_')).length;
    const mlp = inside.filter(({ key }) => key.includes('_mlp_')).length;
    const parts = [
      ...(attention > 0 ? ['attention'] : []),
      ...(mlp > 0 ? ['MLP'] : []),
      ...(attention + mlp < inside.length ? ['others'] : []),
    ];
    return [{ place, modules: inside.length, covers: parts.length === 1 ? `${parts[0]} only` : parts.join(' and ') }];
  });
}

const KINDS: readonly Kind[] = ['linear', 'conv1x1', 'conv3x3', 'conv', 'other'];

function rankFacts(modules: readonly ModuleFacts[]): readonly RankFacts[] {
  return KINDS.flatMap((kind) => {
    const all = modules.filter((module) => module.kind === kind);
    if (all.length === 0) return [];
    const inside = all.filter((module) => module.rank !== undefined);
    return [
      {
        kind,
        modules: all.length,
        unranked: all.length - inside.length,
        ranks: distinct(inside.flatMap(({ rank }) => rank ?? [])),
        alphas: [...new Set(inside.map(({ alpha }) => alpha))].sort((a, b) => (a ?? -1) - (b ?? -1)),
        scales: distinct(inside.flatMap(({ scale }) => scale ?? [])),
      },
    ];
  });
}

function distinct(numbers: readonly number[]): readonly number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}

function blockFacts(modules: readonly ModuleFacts[]): readonly BlockFacts[] {
  const blocks = new Map<string, BlockFacts>();
  for (const { place, tensors, sizeBytes } of modules) {
    const before = blocks.get(place) ?? { place, modules: 0, tensors: 0, sizeBytes: 0 };
    blocks.set(place, {
      place,
      modules: before.modules + 1,
      tensors: before.tensors + tensors,
      sizeBytes: before.sizeBytes + sizeBytes,
    });
  }
  return [...blocks.values()].sort((a, b) => orderOf(a.place) - orderOf(b.place));
}

/** The order of the network, then text encoders and what lies elsewhere. */
export function orderOf(place: string): number {
  const [, section = '', index = '0'] = /^(IN|MID|OUT)(\d+)$/.exec(place) ?? [];
  const start = { IN: 0, MID: 100, OUT: 200 }[section];
  return start === undefined ? 300 + ['TE', 'TE1', 'TE2', 'REST', '?'].indexOf(place) : start + Number(index);
}
