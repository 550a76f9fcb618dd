// Prompts × LoRAs and strengths as one labelled picture: a row for each prompt, a column for each LoRA and strength,
// before them the bare checkpoint. Pictures that a training, another preview or a stopped one has made are taken from
// the store.

import type { Stage, StageContext } from '../stage.ts';
import type { SamplePrompt } from '../worker/protocol.ts';
import { baseOf } from './checkpoint-files.ts';
import { inputOf } from './input-of.ts';
import { drawGrid } from './pictures/draw-grid.ts';
import {
  type ActingFile,
  copyPictures,
  type PictureJob,
  pictureNamed,
  planPictures,
  renderForUser,
  type WantedPicture,
} from './pictures/render.ts';
import { promptLabel, readPrompts } from './pictures/sample-prompts.ts';
import { pictureTools } from './pictures/stored.ts';
import { RunFiles } from './run-files.ts';

interface Attributes {
  /** What each LoRA is called, in the order of the roles `lora.0`, `lora.1` … */
  readonly labels: readonly string[];
  readonly strengths: readonly number[];
  /** Whether there is a column for the bare checkpoint. */
  readonly without: boolean;
  readonly sampler: SamplePrompt['sampler'];
  readonly mixed_precision: PictureJob['mixed_precision'];
  readonly process?: PictureJob['process'];
}

interface Column {
  readonly label: string;
  /** `null`: the bare checkpoint. */
  readonly lora: ActingFile | null;
}

interface Cell extends WantedPicture {
  readonly row: number;
  readonly column: number;
  /** What the copy for the user is called. */
  readonly fileName: string;
}

export const preview: Stage = {
  name: 'preview',
  revision: 2,
  pool: 'gpu',
  runsIn: 'worker',
  tools: pictureTools,
  async run(context) {
    const { labels } = context.node.attributes as unknown as Attributes;
    const { prompts, columns, job, fileNameOf } = await pictured(context);
    const cells = job.wanted;
    const files = await RunFiles.open(context, context.node.id);
    await files.keepOnlyPictures('pictures', new Set(cells.map(({ fileName }) => fileName)));
    const plan = await planPictures(context, job);
    const { pictures } = await renderForUser(context, job, plan, { files, fileNameOf });
    const { grid, record } = await drawGrid(context, {
      title: labels.join(', '),
      columns: columns.map(({ label }) => label),
      rows: prompts.map(promptLabel),
      cells: cells.map(({ name, row, column }) => {
        const picture = context.store.blobPath(pictureNamed(pictures, name));
        return { row, column, picture, compared: null, caption: '' };
      }),
    });
    return { outputs: { grid }, record };
  },
  shown: {
    block: ({ id }) => id,
    async layOut(context) {
      const files = await RunFiles.open(context, context.node.id);
      const { job, fileNameOf } = await pictured(context);
      await copyPictures(context, job, { files, fileNameOf });
      const { grid } = context.entry.outputs;
      if (grid === undefined) return false;
      context.report({ type: 'artifact', name: 'grid', path: await files.copy(grid.path, 'grid.png') });
      return files.isWhole;
    },
  },
};

type Asked = Pick<StageContext, 'node' | 'inputs'>;

/** All pictures that there are to be. */
async function pictured(context: Asked) {
  const { sampler, mixed_precision, process } = context.node.attributes as unknown as Attributes;
  const prompts = await readPrompts(inputOf(context, 'prompts').path, sampler);
  const columns = columnsOf(context);
  const wanted = columns.flatMap((column, index) => cellsOf(column, index, prompts));
  const fileNames = new Map(wanted.map(({ name, fileName }) => [name, fileName]));
  const job = { base: baseOf(context), mixed_precision, process, wanted };
  return { prompts, columns, job, fileNameOf: (name: string) => fileNames.get(name) ?? `${name}.png` };
}

function columnsOf(context: Asked): readonly Column[] {
  const { labels, strengths, without } = context.node.attributes as unknown as Attributes;
  const loras = labels.flatMap((name, index) => {
    const file = inputOf(context, `lora.${index}`);
    return strengths.map((strength): Column => {
      return { label: strength === 1 ? name : `${name} × ${strength}`, lora: { file, strength, blocks: null } };
    });
  });
  return without ? [{ label: 'without', lora: null }, ...loras] : loras;
}

function cellsOf({ label, lora }: Column, column: number, prompts: readonly SamplePrompt[]): readonly Cell[] {
  return prompts.map((prompt, row) => {
    const place = [row, column].map((number) => String(number).padStart(2, '0')).join('-');
    // Labels are names of blocks, but nothing is lost by being careful with what becomes a path.
    const fileName = `${place}-${label.replaceAll(/[^\p{L}\p{N}.-]+/gu, '_')}.png`;
    return { name: `${row}.${column}`, row, column, lora, prompt, fileName };
  });
}
