// Which blocks of a LoRA do what, seen in pictures: the same prompts and seeds without it, with all of it, with each
// block alone and with each block off; then with ever longer beginnings of the ranking, until the wanted share of the
// effect is kept. One more picture has all of it at a strength that differs by next to nothing, and shows what rounding
// alone moves. Each picture is stored as it comes, so an ablation that was stopped goes on where it was.

import { readFile, writeFile } from 'node:fs/promises';
import type { Digest } from '../cache/digest.ts';
import { StageFailure } from '../events.ts';
import type { GraphNode } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import { groupModules } from '../sdxl/lora.ts';
import type { ShowContext, Stage, StageContext } from '../stage.ts';
import { presentBlocks } from '../surgery/chop-file.ts';
import { openLora } from '../surgery/weights-file.ts';
import type { SamplePrompt } from '../worker/protocol.ts';
import { baseOf } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';
import {
  type Ablation,
  effectsOf,
  type Kept,
  meanShare,
  type PromptAblation,
  rankingOf,
  unsurePlaces,
} from './pictures/ablation-effects.ts';
import { ablationGrid } from './pictures/ablation-grid.ts';
import { shortestPrefix, worstCost } from './pictures/ablation-search.ts';
import { drawGrid } from './pictures/draw-grid.ts';
import { measurePictures, type PicturePair } from './pictures/measure.ts';
import {
  type ActingFile,
  copyPictures,
  type PictureJob,
  pictureNamed,
  planPictures,
  renderForUser,
  type WantedPicture,
} from './pictures/render.ts';
import { readPrompts } from './pictures/sample-prompts.ts';
import { pictureTools } from './pictures/stored.ts';
import { RunFiles } from './run-files.ts';

interface Attributes {
  /** Of the effect, what the proposal is to keep: above 0, at most 1. */
  readonly share: number;
  readonly sampler: SamplePrompt['sampler'];
  readonly mixed_precision: PictureJob['mixed_precision'];
  readonly process?: PictureJob['process'];
}

export const ablation: Stage = {
  name: 'ablation',
  revision: 4,
  pool: 'gpu',
  runsIn: 'worker',
  tools: pictureTools,
  async run(context) {
    const { share: wanted, sampler, mixed_precision } = context.node.attributes as unknown as Attributes;
    const prompts = await readPrompts(inputOf(context, 'prompts').path, sampler);
    const studio = await Studio.open(context, prompts, await blocksOf(inputOf(context, 'lora').path));
    const result = await ablateBlocks(studio, { wanted, mixed_precision });
    const ablation = pathIn(context.work, 'ablation.json');
    await writeFile(ablation, `${JSON.stringify(result)}\n`);
    const { grid, record } = await drawGrid(
      context,
      ablationGrid(result, (name) => studio.pathOf(name)),
    );
    return { outputs: { ablation, grid }, record };
  },
  shown: { block: (node) => blockOf(node), layOut },
};

/** "small:ablation" works for the block "small", whose files lie together. */
const blockOf = ({ id }: GraphNode) => id.replace(/:ablation$/, '');

async function layOut(context: ShowContext): Promise<boolean> {
  const { ablation, grid } = context.entry.outputs;
  if (ablation === undefined || grid === undefined) return false;
  const { blocks: seen, prompts, tried } = JSON.parse(await readFile(ablation.path, 'utf8')) as Ablation;
  const blocks = await blocksOf(inputOf(context, 'lora').path);
  const kept = tried.map(({ keep }) => ({ name: `keep.${keep.length}`, blocks: keep }));
  const all = [...NONE_AND_ALL, ...(seen.length > 0 ? parts(blocks) : []), ...kept];
  const files = await RunFiles.open(context, blockOf(context.node));
  const job = jobOf(context, { prompts: prompts.map(({ prompt }) => prompt), blocks }, all);
  await copyPictures(context, job, { files, fileNameOf });
  context.report({ type: 'artifact', name: 'grid', path: await files.copy(grid.path, 'grid.png') });
  return files.isWhole;
}

const fileNameOf = (name: string) => `${name.replaceAll('.', '-')}.png`;

/** The blocks that the file has something in, in the order of the network. */
async function blocksOf(path: string): Promise<readonly string[]> {
  await using file = await openLora(path);
  const blocks = presentBlocks(groupModules(file.header.tensors.keys()));
  if (blocks.length > 0) return blocks;
  throw new StageFailure({
    kind: 'bad-input',
    message: `"${path}" has no modules in any block of SDXL, so there is nothing to switch on and off.`,
  });
}

async function ablateBlocks(studio: Studio, asked: Pick<Ablation, 'wanted' | 'mixed_precision'>): Promise<Ablation> {
  const { prompts, blocks } = studio;
  const { wanted } = asked;
  await studio.announce();
  await studio.render(NONE_AND_ALL);
  const whole = await studio.measure(['none']);
  const changes = prompts.map((prompt, index) => ({ prompt, distance: whole.get(`${index + 1}.none.all`) ?? 0 }));
  if (changes.every(({ distance }) => distance === 0)) {
    const still = changes.map((change): PromptAblation => ({ ...change, floor: null, blocks: {} }));
    const nothing = { blocks: [], ranking: [], unsure: [], proposal: null, tried: [] };
    return { ...asked, prompts: still, floor: null, ...nothing };
  }
  await studio.render(parts(blocks));
  const distances = await studio.measure(parts(blocks).map(({ name }) => name));
  const seen = changes.map((change, index): PromptAblation => {
    const apart = (name: string) => {
      const [fromAll = 0, fromNone = 0] = ['all', 'none'].map((other) =>
        distances.get(`${index + 1}.${name}.${other}`),
      );
      return { fromAll, fromNone };
    };
    const each = blocks.map((block) => [block, { only: apart(`only.${block}`), without: apart(`without.${block}`) }]);
    return { ...change, floor: apart('nearly').fromAll, blocks: Object.fromEntries(each) };
  });
  const effects = effectsOf(blocks, seen);
  const ranking = rankingOf(effects);
  const floor = meanShare(seen, ({ distance, floor }) => (floor ?? 0) / distance);
  const unsure = unsurePlaces(effects, floor);
  const tried = new Map<number, Kept>();
  const keptShare = async (length: number): Promise<number> => {
    const keep = ranking.slice(0, length);
    const share = await shareOfBlocks(studio, seen, { name: `keep.${length}`, blocks: keep });
    tried.set(length, { keep, share });
    return share;
  };
  const length = await shortestPrefix({ count: blocks.length, wanted, shareOf: keptShare });
  const proposal = tried.get(length) ?? { keep: ranking, share: 1 };
  const inOrder = [...tried].toSorted(([a], [b]) => a - b).map(([, kept]) => kept);
  return { ...asked, prompts: seen, floor, blocks: effects, ranking, unsure, proposal, tried: inOrder };
}

/** A picture of every prompt, with these blocks on. */
interface Part {
  readonly name: string;
  /** `null`: all. */
  readonly blocks: readonly string[] | null;
  /** 1 where it is missing. */
  readonly strength?: number;
}

const NONE_AND_ALL: readonly Part[] = [
  { name: 'none', blocks: [] },
  { name: 'all', blocks: null },
];

/**
 * Next to nothing: 0.1 % of the effect, less than any share that is worth a word, if pictures went with strength. Yet at
 * the 8 bits of bf16 it changes how some numbers of nearly every module are rounded, and in F32 of all of them.
 */
const NEARLY_ONE = 1 + 2 ** -10;

function parts(blocks: readonly string[]): readonly Part[] {
  return [
    { name: 'nearly', blocks: null, strength: NEARLY_ONE },
    ...blocks.map((block) => ({ name: `only.${block}`, blocks: [block] })),
    ...blocks.map((block) => ({ name: `without.${block}`, blocks: blocks.filter((other) => other !== block) })),
  ];
}

async function shareOfBlocks(studio: Studio, seen: readonly PromptAblation[], part: Part): Promise<number> {
  await studio.render([part]);
  const distances = await studio.measure([part.name]);
  const ways = seen.map(({ distance }, index) => {
    return { distance, rest: distances.get(`${index + 1}.${part.name}.all`) ?? Number.NaN };
  });
  return meanShare(ways, ({ distance, rest }) => 1 - rest / distance);
}

/** Makes and measures the pictures of one ablation. They are called `1.none`, `2.only.OUT01`, with prompts from 1. */
class Studio {
  readonly prompts: readonly SamplePrompt[];
  readonly blocks: readonly string[];
  readonly files: RunFiles;
  readonly #context: StageContext;
  readonly #pictures = new Map<string, Digest>();
  /** Made in this run. */
  #made = 0;
  /** What this run is going to make before it looks for what may be left out. */
  #announced = 0;

  private constructor(options: Pick<Studio, 'prompts' | 'blocks' | 'files'> & { readonly context: StageContext }) {
    this.prompts = options.prompts;
    this.blocks = options.blocks;
    this.files = options.files;
    this.#context = options.context;
  }

  static async open(
    context: StageContext,
    prompts: readonly SamplePrompt[],
    blocks: readonly string[],
  ): Promise<Studio> {
    const files = await RunFiles.open(context, blockOf(context.node));
    await files.keepOnlyPictures('pictures', new Set());
    return new Studio({ context, prompts, blocks, files });
  }

  /** Says what it is going to cost. */
  async announce(): Promise<void> {
    const { prompts, blocks } = this;
    const each = 3 + 2 * blocks.length;
    const plan = await planPictures(this.#context, this.#job([...NONE_AND_ALL, ...parts(blocks)]));
    this.#announced = plan.missing.length;
    const total = `${prompts.length} ${prompts.length === 1 ? 'prompt' : 'prompts'} × ${each} pictures`;
    const what = `without the LoRA, twice with all of it, and with each of its ${blocks.length} blocks alone and off`;
    // The first of a ranking alone, and all but its last, are among them.
    const more = await worstCost(blocks.length, (length) => length > 1 && length < blocks.length - 1);
    const then = more === 0 ? '' : `, then up to ${prompts.length * more} more to see what may be left out`;
    const stored = plan.found.size === 0 ? '' : `; ${plan.found.size} are there already`;
    this.#context.report({ type: 'log', level: 'info', message: `${total} (${what})${then}${stored}` });
  }

  async render(parts: readonly Part[]): Promise<void> {
    const job = this.#job(parts);
    const plan = await planPictures(this.#context, job);
    const { pictures } = await renderForUser(this.#context, job, plan, {
      files: this.files,
      fileNameOf,
      before: this.#made,
      total: Math.max(this.#announced, this.#made + plan.missing.length),
    });
    this.#made += plan.missing.length;
    for (const [name, picture] of pictures) this.#pictures.set(name, picture);
  }

  /** How far each part's picture is from those of all and of none: `1.only.OUT01.all`, `1.only.OUT01.none`. */
  async measure(names: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const pairs = this.prompts.flatMap((_, index) =>
      names.flatMap((name) =>
        ['all', 'none'].map((other): PicturePair => {
          const [first, second] = [`${index + 1}.${name}`, `${index + 1}.${other}`];
          return { name: `${first}.${other}`, first: this.#picture(first), second: this.#picture(second) };
        }),
      ),
    );
    return measurePictures(this.#context, pairs);
  }

  pathOf(name: string): string {
    return this.#context.store.blobPath(this.#picture(name));
  }

  #picture(name: string): Digest {
    return pictureNamed(this.#pictures, name);
  }

  #job(parts: readonly Part[]): PictureJob {
    return jobOf(this.#context, this, parts);
  }
}

function jobOf(
  context: Pick<StageContext, 'node' | 'inputs'>,
  { prompts, blocks: all }: Pick<Studio, 'prompts' | 'blocks'>,
  parts: readonly Part[],
): PictureJob {
  const file = inputOf(context, 'lora');
  const { mixed_precision, process } = context.node.attributes as unknown as Attributes;
  // Every block on is the LoRA as it is, whose pictures a training or a preview may have made.
  const acting = ({ blocks, strength = 1 }: Part): ActingFile => {
    const isWhole = blocks === null || blocks.length === all.length;
    return { file, strength, blocks: isWhole ? null : Object.fromEntries(blocks.map((block) => [block, 1])) };
  };
  const wanted = prompts.flatMap((prompt, index) =>
    parts.map((part): WantedPicture => ({ name: `${index + 1}.${part.name}`, prompt, lora: acting(part) })),
  );
  return { base: baseOf(context), mixed_precision, process, wanted };
}
