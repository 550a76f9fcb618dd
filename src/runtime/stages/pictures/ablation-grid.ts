// The pictures of an ablation as one labelled grid, in sections so that it fits a screen. For each prompt:
//
//   the prompt                none      all ▒      rounding ▒ kept ▒
//   IN      only this block   IN00 ▒    IN01 ▒     IN02 ▒   …       heat: what it changes, from none
//           all but it        IN00 ▒    IN01 ▒     IN02 ▒   …       heat: what is missing, from all
//   MID, TE, REST             MID00 ▒   MID01 ▒    MID02 ▒   TE1 ▒ …
//   OUT                       OUT00 ▒   OUT01 ▒    …
//
// Where all blocks fit side by side, they are one section.

import type { Grid } from '../../worker/protocol.ts';
import type { Ablation, BlockDistances, Kept, PromptAblation } from './ablation-effects.ts';
import { promptLabel } from './sample-prompts.ts';

type Cell = Grid['cells'][number];

export type GridContent = Omit<Grid, 'op' | 'output'>;

interface Row {
  readonly label: string;
  readonly cells: readonly Omit<Cell, 'row'>[];
}

/** `pathOf` gives the file of a picture by its name in the ablation, such as `1.only.OUT01`. */
export function ablationGrid(ablation: Ablation, pathOf: (name: string) => string): GridContent {
  const rows = ablation.prompts.flatMap((prompt, index) => {
    return promptRows(ablation, prompt, (part) => pathOf(`${index + 1}.${part}`));
  });
  const cells = rows.flatMap(({ cells }, row) => cells.map((cell) => ({ row, ...cell })));
  const columns = Math.max(...cells.map(({ column }) => column)) + 1;
  return {
    title: title(ablation),
    // Names stand below the pictures, since each section has its own.
    columns: Array.from({ length: columns }, () => ''),
    rows: rows.map(({ label }) => label),
    cells,
  };
}

function promptRows(ablation: Ablation, prompt: PromptAblation, pathOf: (part: string) => string): readonly Row[] {
  const kept = keptFew(ablation);
  const [none, all] = [pathOf('none'), pathOf('all')];
  const overview: Row = {
    label: promptLabel(prompt.prompt),
    cells: [
      { column: 0, picture: none, compared: null, caption: 'without the LoRA' },
      { column: 1, picture: all, compared: none, caption: 'all of it (heat: from without)' },
      ...(prompt.floor === null
        ? []
        : [{ column: 2, picture: pathOf('nearly'), compared: all, caption: `${roundingOf(prompt)} (heat: from all)` }]),
      ...(kept === undefined
        ? []
        : [
            {
              column: 3,
              picture: pathOf(`keep.${kept.keep.length}`),
              compared: all,
              caption: `kept blocks: ${percent(kept.share)} (heat: from all)`,
            },
          ]),
    ],
  };
  const sections = sectionsOf(ablation.blocks.map(({ block }) => block)).flatMap(({ name, blocks }): Row[] => {
    const inside = [...blocks].map(([block, column]) => ({ block, column }));
    const only = inside.map(({ block, column }) => {
      const caption = `${block} (no. ${placeMark(ablation, block)}) does ${shares(prompt, block).only}`;
      return { column, picture: pathOf(`only.${block}`), compared: none, caption };
    });
    const without = inside.map(({ block, column }) => {
      const caption = `${block} off: ${shares(prompt, block).without} lost`;
      return { column, picture: pathOf(`without.${block}`), compared: all, caption };
    });
    return [
      { label: `${name}only this block (heat: what it changes)`, cells: only },
      { label: `${name}all but this block (heat: what is lost)`, cells: without },
    ];
  });
  return [overview, ...sections];
}

interface Section {
  /** What its labels begin with. */
  readonly name: string;
  /** Each block with its column. */
  readonly blocks: ReadonlyMap<string, number>;
}

/** As many as SDXL has on each side. */
const SIDE_BY_SIDE = 9;

/** A block stands in the column of its number, so that a gap shows what the LoRA does not have. */
function sectionsOf(blocks: readonly string[]): readonly Section[] {
  if (blocks.length <= SIDE_BY_SIDE) {
    return blocks.length === 0 ? [] : [{ name: '', blocks: new Map(blocks.map((block, index) => [block, index])) }];
  }
  const section = (name: string, columnOf: (block: string) => number | undefined): Section => {
    const places = blocks.map((block) => [block, columnOf(block)] as const);
    return {
      name,
      blocks: new Map(places.flatMap(([block, column]) => (column === undefined ? [] : [[block, column]]))),
    };
  };
  const sections = [
    section('IN: ', (block) => numberAfter('IN', block)),
    section('MID, TE, REST: ', (block) => numberAfter('MID', block) ?? OUTSIDE.get(block)),
    section('OUT: ', (block) => numberAfter('OUT', block)),
  ];
  return sections.filter(({ blocks }) => blocks.size > 0);
}

/** Behind the three blocks of the middle. Stable Diffusion 1 and 2 have one text encoder, called TE. */
const OUTSIDE: ReadonlyMap<string, number> = new Map([
  ['TE', 3],
  ['TE1', 3],
  ['TE2', 4],
  ['REST', 5],
]);

function numberAfter(section: string, block: string): number | undefined {
  const number = block.startsWith(section) ? block.slice(section.length) : '';
  return /^\d+$/.test(number) ? Number(number) : undefined;
}

/** What is proposed, where that is not simply everything. */
function keptFew({ proposal, blocks }: Ablation): Kept | undefined {
  return proposal !== null && proposal.keep.length < blocks.length ? proposal : undefined;
}

function title(ablation: Ablation): string {
  if (ablation.blocks.length === 0) return 'The LoRA changes nothing in these pictures.';
  const kept = keptFew(ablation);
  const found =
    kept === undefined
      ? 'No fewer than all keep what is wanted.'
      : `${kept.keep.join(', ')}: ${percent(kept.share)} of the effect.`;
  const rounding = isWorthSaying(ablation.floor) ? [`Shares below ${percent(ablation.floor)} are rounding.`] : [];
  return ['What each block of the LoRA does.', found, ...rounding].join(' ');
}

/** Whether rounding makes one percent that would be written. */
export function isWorthSaying(floor: number | null): floor is number {
  return floor !== null && Math.round(100 * floor) > 0;
}

/** `3`, or `~3` where rounding may have decided it. */
export function placeMark({ ranking, unsure }: Ablation, block: string): string {
  return `${unsure.includes(block) ? '~' : ''}${ranking.indexOf(block) + 1}`;
}

function roundingOf({ distance, floor }: PromptAblation): string {
  return distance === 0 ? 'what rounding moves' : `rounding alone: ${percent((floor ?? 0) / distance)}`;
}

/** Of this prompt; the ranking goes by the mean of all. */
function shares(
  { distance, blocks }: PromptAblation,
  block: string,
): { readonly only: string; readonly without: string } {
  const { only, without } = blocks[block] as BlockDistances;
  if (distance === 0) return { only: 'nothing', without: 'nothing' };
  return { only: percent(1 - only.fromAll / distance), without: percent(without.fromAll / distance) };
}

/** 0.834 as `83 %`. */
export function percent(share: number): string {
  const rounded = Math.round(100 * share);
  return `${rounded < 0 ? `−${-rounded}` : Math.abs(rounded)} %`;
}
