// The pictures of a sweep as one labelled grid: two rows for each prompt, columns in the order of the network.
//
//              none   all          kept          IN04              …
//   only       ·      ▒ from none  ▒ from all    ▒ from none       this block alone: heat shows what it does
//   without                                      ▒ from all        all but it: heat shows what is missing

import type { Grid } from '../worker/protocol.ts';
import { promptLabel } from './sample-prompts.ts';
import type { BlockDistances, PromptSweep, Sweep } from './sweep-effects.ts';

type Cell = Grid['cells'][number];

/** `pathOf` gives the file of a picture by its name in the sweep, such as `1.only.OUT01`. */
export function sweepGrid(sweep: Sweep, pathOf: (name: string) => string): Omit<Grid, 'op' | 'output'> {
  const { prompts, blocks, ranking, proposal } = sweep;
  const kept = proposal !== null && proposal.keep.length < blocks.length ? proposal : undefined;
  const columns = ['none', 'all', ...(kept ? ['kept'] : []), ...blocks.map(({ block }) => block)];
  const cells = prompts.flatMap((prompt, index): Cell[] => {
    const name = (part: string): string => pathOf(`${index + 1}.${part}`);
    const [upper, lower] = [2 * index, 2 * index + 1];
    const none: Cell = { row: upper, column: 0, picture: name('none'), compared: null, caption: 'without the LoRA' };
    const all: Cell = { row: upper, column: 1, picture: name('all'), compared: name('none'), caption: 'all of it' };
    const keptCell = kept && {
      row: upper,
      column: 2,
      picture: name(`keep.${kept.keep.length}`),
      compared: name('all'),
      caption: `keeps ${percent(kept.share)}`,
    };
    const parts = blocks.flatMap(({ block }): Cell[] => {
      const column = columns.indexOf(block);
      const [only, without] = shares(prompt, block);
      return [
        { row: upper, column, picture: name(`only.${block}`), compared: name('none'), caption: `does ${only}` },
        { row: lower, column, picture: name(`without.${block}`), compared: name('all'), caption: `${without} lost` },
      ];
    });
    return [none, all, ...(keptCell ? [keptCell] : []), ...parts];
  });
  return {
    title: title(sweep, kept !== undefined),
    columns: columns.map((column) => {
      const place = ranking.indexOf(column);
      return place < 0 ? column : `${column} · no. ${place + 1}`;
    }),
    rows: prompts.flatMap(({ prompt }) => [`only this block: ${promptLabel(prompt)}`, 'all but this block']),
    cells,
  };
}

function title({ blocks, proposal }: Sweep, hasKept: boolean): string {
  if (blocks.length === 0) return 'The LoRA changes nothing in these pictures.';
  const heat =
    'Heat: what a block does by itself (upper row, from none), what is lost without it (lower row, from all).';
  if (proposal === null || !hasKept) return heat;
  return `${heat} Kept: ${proposal.keep.join(', ')}, ${percent(proposal.share)} of the effect (heat from all).`;
}

/** Of this prompt; the ranking goes by the mean of all. */
function shares({ distance, blocks }: PromptSweep, block: string): readonly [only: string, without: string] {
  const { only, without } = blocks[block] as BlockDistances;
  if (distance === 0) return ['nothing', 'nothing'];
  return [percent(1 - only.fromAll / distance), percent(without.fromAll / distance)];
}

/** 0.834 as `83 %`. */
export function percent(share: number): string {
  return `${Math.round(100 * share)} %`.replace('-', '−');
}
