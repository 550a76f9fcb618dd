// What an ablation concludes from pictures whose content the tests decide on, and what it never renders twice.

import { expect, test } from 'vitest';
import { ablation } from '../../../src/runtime/stages/ablation.ts';
import type { Ablation } from '../../../src/runtime/stages/pictures/ablation-effects.ts';
import { ablationGrid } from '../../../src/runtime/stages/pictures/ablation-grid.ts';
import { shortestPrefix, worstCost } from '../../../src/runtime/stages/pictures/ablation-search.ts';
import type { SamplePrompt } from '../../../src/runtime/worker/protocol.ts';
import { IN04, MID00, OUT01, TE1, TE2, type TinyModule } from './lora-files.ts';
import { type PictureLab, pictureLab } from './picture-lab.ts';
import { type Item, pictureWorker } from './picture-worker.ts';

const attributes = { share: 0.8, sampler: 'euler_a', mixed_precision: 'bf16' };
const blocks = ['IN04', 'MID00', 'OUT01', 'TE1', 'TE2'];

function openAblation(prompts = 'a cat --d 1\n', modules?: readonly TinyModule[]): Promise<PictureLab> {
  return pictureLab(ablation, {
    id: 'what:ablation',
    attributes,
    prompts,
    ...(modules && { loras: { lora: modules } }),
  });
}

/** A number for each block, times how much of it is on; a picture without the LoRA is black. */
function additive(strengths: { readonly [block: string]: number }) {
  return ({ lora }: Item): readonly number[] =>
    blocks.map((block) =>
      lora === null ? 0 : (strengths[block] ?? 0) * (lora.blocks?.[block] ?? (lora.blocks ? 0 : 1)),
    );
}

/** All blocks move the same number, so what is on adds up. */
function summed(strengths: { readonly [block: string]: number }) {
  const parts = additive(strengths);
  return (item: Item): readonly number[] => [parts(item).reduce((sum, part) => sum + part, 0)];
}

const strengths = { IN04: 0.02, MID00: 0.08, OUT01: 0.5, TE1: 0.3, TE2: 0.1 };

test('blocks are ranked by what they do alone and what is lost without them', async () => {
  using lab = await openAblation();
  const worker = pictureWorker({ show: summed(strengths) });
  const { ok, texts } = await lab.run(worker);
  expect(ok).toBe(true);
  const result = JSON.parse(texts.ablation as string) as Ablation;
  expect(result.ranking).toEqual(['OUT01', 'TE1', 'TE2', 'MID00', 'IN04']);
  expect(result.prompts[0]?.distance).toBeCloseTo(1);
  expect(result.blocks.map(({ block }) => block)).toEqual(blocks);
  for (const { block, only, without, effect } of result.blocks) {
    const share = strengths[block as keyof typeof strengths];
    expect([block, only, without, effect].map(rounded)).toEqual([block, share, share, share].map(rounded));
  }
  const one = result.prompts[0]?.blocks.OUT01;
  expect(one?.only.fromNone).toBeCloseTo(0.5);
  expect(one?.without.fromNone).toBeCloseTo(0.5);
});

test('the proposal is the shortest beginning of the ranking whose picture was seen to keep the share', async () => {
  using lab = await openAblation();
  const worker = pictureWorker({ show: summed(strengths) });
  const { texts } = await lab.run(worker);
  const { proposal, tried, wanted } = JSON.parse(texts.ablation as string) as Ablation;
  expect(wanted).toBe(0.8);
  expect(proposal?.keep).toEqual(['OUT01', 'TE1']);
  expect(proposal?.share).toBeCloseTo(0.8);
  expect(tried.map(({ keep }) => keep.length)).toEqual([1, 2]);
  // None and all; all with rounding, and each block alone and off: the first alone is among them, so two blocks are the only addition.
  expect(worker.requests).toEqual([2, 11, 1]);
});

test('a share that pictures do not reach before all blocks are on is answered with all of them', async () => {
  using lab = await openAblation();
  // Nothing but all of it does anything.
  const show = ({ lora }: Item) => [lora !== null && lora.blocks === null ? 1 : 0];
  const { texts } = await lab.run(pictureWorker({ show }));
  const { proposal, blocks: effects } = JSON.parse(texts.ablation as string) as Ablation;
  expect(proposal).toEqual({ keep: blocks, share: 1 });
  expect(effects.map(({ only, without }) => [only, without])).toEqual(blocks.map(() => [0, 1]));
});

test('a block that leads away from the whole counts against itself', async () => {
  using lab = await openAblation();
  const { texts } = await lab.run(pictureWorker({ show: summed({ OUT01: 0.45, TE1: 0.15, IN04: -0.1 }) }));
  const { blocks: effects, proposal } = JSON.parse(texts.ablation as string) as Ablation;
  const away = effects.find(({ block }) => block === 'IN04');
  expect(away?.only).toBeCloseTo(-0.2);
  expect(away?.effect).toBeCloseTo(0);
  expect(proposal?.keep).toEqual(['OUT01']);
  expect(proposal?.share).toBeCloseTo(0.9);
});

test('every prompt counts alike, however strongly the LoRA moves it, and one that it leaves as it is does not count', async () => {
  using lab = await openAblation('strong --d 1\nweak --d 2\nstill --d 3\n');
  const show = (item: Item): readonly number[] => {
    const { prompt } = item.prompt;
    if (prompt === 'still') return [0.5];
    const strong = summed({ OUT01: 0.8, TE1: 0.2 })(item);
    return prompt === 'strong' ? strong : summed({ OUT01: 0.02, TE1: 0.08 })(item);
  };
  const { texts } = await lab.run(pictureWorker({ show }));
  const { blocks: effects, prompts } = JSON.parse(texts.ablation as string) as Ablation;
  expect(prompts.map(({ distance }) => distance).map(rounded)).toEqual([1, 0.1, 0].map(rounded));
  expect(effects.find(({ block }) => block === 'OUT01')?.effect).toBeCloseTo((0.8 + 0.2) / 2);
});

test('a LoRA that changes nothing is said to change nothing after two pictures', async () => {
  using lab = await openAblation();
  const worker = pictureWorker({ show: () => [0.3] });
  const { ok, texts } = await lab.run(worker);
  expect(ok).toBe(true);
  expect(JSON.parse(texts.ablation as string)).toMatchObject({ blocks: [], ranking: [], proposal: null, tried: [] });
  expect(worker.grids[0]?.title).toBe('The LoRA changes nothing in these pictures.');
  expect(worker.grids[0]?.cells).toHaveLength(2);
  // Not one of its blocks.
  expect(worker.rendered).toHaveLength(2);
});

/** As `summed`, and one number more that only rounding moves: every picture that is not quite all has it. */
function roundedBy(floor: number, strengths: { readonly [block: string]: number }) {
  const show = summed(strengths);
  return (item: Item): readonly number[] => {
    const isAll = item.lora?.blocks === null && item.lora.strength === 1;
    return [...show(item), item.lora === null || isAll ? 0 : floor];
  };
}

test('what rounding alone moves is measured, and places that it may have decided are marked', async () => {
  using lab = await openAblation();
  const worker = pictureWorker({ show: roundedBy(0.1, strengths) });
  const { texts } = await lab.run(worker);
  const result = JSON.parse(texts.ablation as string) as Ablation;
  const nearly = worker.rendered.filter(({ lora }) => lora !== null && lora.strength !== 1);
  expect(nearly.map(({ lora }) => lora)).toMatchObject([{ strength: 1 + 2 ** -10, blocks: null }]);
  expect(result.floor).toBeCloseTo(0.1);
  expect(result.prompts[0]?.floor).toBeCloseTo(0.1 / Math.sqrt(2));
  // A block that does next to nothing loses what rounding moves.
  expect(result.blocks.find(({ block }) => block === 'IN04')?.without).toBeCloseTo(Math.hypot(0.02, 0.1));
  expect(result.ranking.slice(0, 2)).toEqual(['OUT01', 'TE1']);
  expect(result.unsure).toEqual(['TE2', 'MID00', 'IN04']);
  const [grid] = worker.grids;
  expect(grid?.title).toContain('Shares below 10 % are rounding.');
  const captions = grid?.cells.map(({ caption }) => caption) ?? [];
  expect(captions).toContain('rounding alone: 10 % (heat: from all)');
  expect(captions.filter((caption) => caption.includes('~'))).toHaveLength(3);
});

test('blocks that are equally strong have a sure order where nothing is rounded', async () => {
  using lab = await openAblation();
  const { texts } = await lab.run(pictureWorker({ show: summed({ OUT01: 0.5, TE1: 0.5 }) }));
  expect(JSON.parse(texts.ablation as string)).toMatchObject({ floor: 0, unsure: [] });
});

test('a LoRA with one block is rendered with it, without it and once for rounding, and nothing more', async () => {
  using lab = await openAblation('a cat --d 1\n', [{ name: OUT01, kernel: 3 }]);
  const worker = pictureWorker({ show: summed({ OUT01: 1 }) });
  const { texts } = await lab.run(worker);
  expect(worker.requests).toEqual([2, 1]);
  const { blocks: effects, proposal } = JSON.parse(texts.ablation as string) as Ablation;
  expect(effects).toEqual([{ block: 'OUT01', only: 1, without: 1, effect: 1 }]);
  expect(proposal).toEqual({ keep: ['OUT01'], share: 1 });
});

test('the cost is said before anything is rendered', async () => {
  using lab = await openAblation('a cat --d 1\na dog --d 2\n');
  const worker = pictureWorker({ show: summed(strengths) });
  const { said, events } = await lab.run(worker);
  expect(said[0]).toMatch(/^2 prompts × 13 pictures \(.*each of its 5 blocks alone and off\), then up to 4 more/);
  const kinds = events.flatMap((event) => (event.type === 'node-progress' ? [event.progress.type] : []));
  expect(kinds.indexOf('log')).toBeLessThan(kinds.indexOf('artifact'));
  expect(worker.rendered.length).toBeLessThanOrEqual(26 + 4);
});

test('an ablation that is stopped in the middle goes on where it was, and comes to the same result', async () => {
  using whole = await openAblation();
  const quiet = await whole.run(pictureWorker({ show: summed(strengths) }));
  using lab = await openAblation();
  const stop = new AbortController();
  const first = pictureWorker({
    show: summed(strengths),
    before: (count) => {
      if (count === 7) stop.abort();
    },
  });
  expect(await lab.run(first, { signal: stop.signal })).toMatchObject({ ok: false });
  expect(first.rendered).toHaveLength(7);
  const second = pictureWorker({ show: summed(strengths) });
  const after = await lab.run(second);
  expect(after.texts).toEqual(quiet.texts);
  expect(second.rendered).toHaveLength(14 - 7);
  expect(after.said[0]).toContain('7 are there already');
});

test('another share renders only what was not looked at yet', async () => {
  using lab = await openAblation();
  await lab.run(pictureWorker({ show: summed(strengths) }));
  const worker = pictureWorker({ show: summed(strengths) });
  const { texts } = await lab.run(worker, { attributes: { share: 0.85 } });
  const { proposal } = JSON.parse(texts.ablation as string) as Ablation;
  expect(proposal?.keep).toEqual(['OUT01', 'TE1', 'TE2']);
  // One, two and all but one were there.
  expect(worker.requests).toEqual([1]);
});

test('a grid of few blocks has them side by side, alone above and off below', async () => {
  using lab = await openAblation('a cat --d 1\na dog --d 2\n');
  const worker = pictureWorker({ show: summed(strengths) });
  await lab.run(worker);
  const [grid] = worker.grids;
  expect(grid?.rows).toEqual([
    'a cat (seed 1, 1024×1024)',
    'only this block (heat: what it changes)',
    'all but this block (heat: what is lost)',
    'a dog (seed 2, 1024×1024)',
    'only this block (heat: what it changes)',
    'all but this block (heat: what is lost)',
  ]);
  const cell = (row: number, column: number) => grid?.cells.find((one) => one.row === row && one.column === column);
  expect(cell(0, 3)?.caption).toBe('kept blocks: 80 % (heat: from all)');
  expect([0, 1, 2, 3, 4].map((column) => cell(1, column)?.caption)).toEqual([
    'IN04 (no. 5) does 2 %',
    'MID00 (no. 4) does 8 %',
    'OUT01 (no. 1) does 50 %',
    'TE1 (no. 2) does 30 %',
    'TE2 (no. 3) does 10 %',
  ]);
  expect(cell(5, 2)?.caption).toBe('OUT01 off: 50 % lost');
  // Alone: against none. Off: against all.
  expect(cell(1, 2)?.compared).toBe(cell(0, 0)?.picture);
  expect(cell(2, 2)?.compared).toBe(cell(0, 1)?.picture);
  expect(grid?.cells).toHaveLength(2 * (4 + 2 * 5));
  expect(grid?.title).toBe('What each block of the LoRA does. OUT01, TE1: 80 % of the effect.');
});

test('a grid of many blocks has sections, and each block is in the column of its number', () => {
  const many = ['IN01', 'IN04', 'IN08', 'MID00', 'MID02', 'OUT00', 'OUT01', 'OUT08', 'TE1', 'TE2', 'REST'];
  const apart = { fromAll: 0.5, fromNone: 0.5 };
  const prompt = { prompt: 'a cat', seed: 1, width: 64, height: 64 } as SamplePrompt;
  const grid = ablationGrid(
    {
      prompts: [
        {
          prompt,
          distance: 1,
          floor: 0.01,
          blocks: Object.fromEntries(many.map((block) => [block, { only: apart, without: apart }])),
        },
      ],
      blocks: many.map((block) => ({ block, only: 0.5, without: 0.5, effect: 0.5 })),
      ranking: many,
      mixed_precision: 'bf16',
      floor: 0.01,
      unsure: many,
      wanted: 0.8,
      proposal: { keep: many, share: 1 },
      tried: [],
    },
    (name) => name,
  );
  expect(grid.rows.map((row) => row.split(':')[0])).toEqual([
    'a cat (seed 1, 64×64)',
    ...['IN', 'IN', 'MID, TE, REST', 'MID, TE, REST', 'OUT', 'OUT'],
  ]);
  const placed = grid.cells.map(({ row, column, picture }) => [row, column, picture]);
  expect(placed.filter(([row]) => row === 1)).toEqual([
    [1, 1, '1.only.IN01'],
    [1, 4, '1.only.IN04'],
    [1, 8, '1.only.IN08'],
  ]);
  expect(placed.filter(([row]) => row === 4)).toEqual([
    [4, 0, '1.without.MID00'],
    [4, 2, '1.without.MID02'],
    [4, 3, '1.without.TE1'],
    [4, 4, '1.without.TE2'],
    [4, 5, '1.without.REST'],
  ]);
  expect(grid.columns).toHaveLength(9);
  expect(grid.cells).toHaveLength(3 + 2 * many.length);
});

test('copies of all pictures lie in the run folder while it works, and those of an earlier ablation go', async () => {
  using lab = await openAblation();
  lab.folder.write({ '.lorac/runs/what/pictures/9-only-OUT08.png': 'of another LoRA' });
  await lab.run(pictureWorker({ show: summed(strengths) }));
  expect(lab.shown()).toEqual(
    [
      ...['none', 'all', 'nearly', 'keep-1', 'keep-2'],
      ...blocks.flatMap((block) => [`only-${block}`, `without-${block}`]),
    ]
      .map((name) => `1-${name}.png`)
      .sort(),
  );
});

test('a file without a block of SDXL is refused with the reason', async () => {
  using lab = await openAblation('a cat\n', [{ name: 'something_else' }]);
  const { ok, said } = await lab.run(pictureWorker({ show: () => [0] }));
  expect(ok).toBe(false);
  expect(said).toEqual([expect.stringContaining('nothing to switch on and off')]);
});

test('the search finds the shortest beginning where more blocks never keep less, and looks at no length twice', async () => {
  for (let count = 1; count <= 24; count += 1) {
    for (let answer = 1; answer <= count; answer += 1) {
      const looked: number[] = [];
      const shareOf = (length: number): number => {
        looked.push(length);
        return length >= answer ? 0.9 : 0.1;
      };
      expect(await shortestPrefix({ count, wanted: 0.8, shareOf })).toBe(answer);
      expect(new Set(looked).size).toBe(looked.length);
      expect(looked).not.toContain(count);
    }
    expect(await worstCost(count, () => true)).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(count + 1)));
  }
});

test('what the search finds has been seen to keep the share, also where more blocks sometimes keep less', async () => {
  const shares = [0.2, 0.9, 0.3, 0.4, 0.85, 0.5, 0.6, 0.95, 0.7, 1];
  for (const wanted of [0.1, 0.35, 0.8, 0.86, 0.97, 1]) {
    const length = await shortestPrefix({
      count: shares.length,
      wanted,
      shareOf: (asked) => shares[asked - 1] as number,
    });
    expect(shares[length - 1]).toBeGreaterThanOrEqual(wanted);
  }
});

function rounded(value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value * 1e9) / 1e9 : value;
}

test('only the modules of the file decide which blocks there are', async () => {
  using lab = await openAblation('a cat --d 1\n', [{ name: IN04 }, { name: MID00 }, { name: TE1 }, { name: TE2 }]);
  const { texts } = await lab.run(pictureWorker({ show: summed(strengths) }));
  const { blocks: effects } = JSON.parse(texts.ablation as string) as Ablation;
  expect(effects.map(({ block }) => block)).toEqual(['IN04', 'MID00', 'TE1', 'TE2']);
});
