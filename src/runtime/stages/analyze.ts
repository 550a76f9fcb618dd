// Which blocks of a LoRA carry what: how strong each is, how its strength is spread over directions, and, where an ablation
// was made, what each does in pictures and what may be left out.

import { constants, copyFile, readFile, writeFile } from 'node:fs/promises';
import type { AbsolutePath } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import { measureNorms } from '../inspect/norms.ts';
import { reportLora } from '../inspect/report.ts';
import type { SafetensorsFile } from '../safetensors/file.ts';
import { CHECKPOINT_LIMITS } from '../safetensors/header.ts';
import type { Stage, StageContext } from '../stage.ts';
import { type FactorModule, readFactors } from '../surgery/resize/factors.ts';
import { parseReferences } from '../surgery/resize/recipe.ts';
import { openLora, openWeights } from '../surgery/weights-file.ts';
import { inputOf } from './input-of.ts';
import type { Ablation, PromptAblation } from './pictures/ablation-effects.ts';
import {
  type BlockNumbers,
  type GroupNumbers,
  type ModuleNumbers,
  numbersByBlock,
} from './pictures/analysis-numbers.ts';
import { type Proposal, proposalOf } from './pictures/analysis-proposal.ts';
import { reportLines, shortLines } from './pictures/analysis-text.ts';
import { RunFiles } from './run-files.ts';

/** The output `report`. */
export interface AnalyzeReport {
  /** What the LoRA is called. */
  readonly label: string;
  readonly whole: GroupNumbers;
  /** In the order of the network; only those that the file has. */
  readonly blocks: readonly BlockNumbers[];
  /** What there is to know about these numbers, in words. */
  readonly notes: readonly string[];
  /** What pictures showed; `null` without prompts. */
  readonly ablation: Ablation | null;
  /** `null` without prompts, and when the LoRA changes nothing for them. */
  readonly proposal: Proposal | null;
}

export const analyze: Stage = {
  name: 'analyze',
  revision: 5,
  pool: 'cpu',
  runsIn: 'native',
  async run(context) {
    const report = await analyzed(context);
    const output = pathIn(context.work, 'report.json');
    await writeFile(output, `${JSON.stringify(report, undefined, 2)}\n`);
    const grid = await copyOfGrid(context);
    const shown = await lay(await RunFiles.open(context, context.node.id), report, grid);
    // A command prints the whole report by itself.
    if (context.node.settings.quiet !== true) {
      for (const message of [...shortLines(report), ...shown])
        context.report({ type: 'log', level: 'result', message });
    }
    return { outputs: { report: output, ...(grid && { grid }) } };
  },
  shown: {
    block: ({ id }) => id,
    async layOut(context) {
      const { report, grid } = context.entry.outputs;
      if (report === undefined) return false;
      const files = await RunFiles.open(context, context.node.id);
      await lay(files, JSON.parse(await readFile(report.path, 'utf8')) as AnalyzeReport, grid?.path);
      return files.isWhole;
    },
  },
};

/** The paths of the copies. */
async function lay(files: RunFiles, report: AnalyzeReport, grid: AbsolutePath | undefined): Promise<readonly string[]> {
  const text = await files.write('report.txt', `${reportLines(report, { color: false }).join('\n')}\n`);
  if (grid !== undefined) return [await files.copy(grid, 'grid.png'), text];
  await files.remove('grid.png');
  await files.remove('pictures');
  return [text];
}

async function analyzed(context: StageContext): Promise<AnalyzeReport> {
  const { label, share } = context.node.attributes as unknown as { readonly label: string; readonly share: number };
  await using lora = await openLora(inputOf(context, 'lora').path);
  await using factors = await openWeights(inputOf(context, 'factors').path, CHECKPOINT_LIMITS);
  const { modules: decomposed } = await readFactors(factors);
  const { modules, notes, blocks } = await numbersOf(context, lora, decomposed);
  const numbers = numbersByBlock(modules, blocks);
  const ablation = await readAblation(context);
  const kept = ablation?.proposal;
  const tried = ablation?.blocks.map(({ block }) => block) ?? [];
  return {
    label,
    ...numbers,
    notes: [...notes, ...(ablation === null ? [] : ablationNotes(ablation))],
    ablation,
    proposal: kept ? proposalOf(kept, { wanted: share, blocks: tried, label }) : null,
  };
}

/** Modules of other families have no directions yet; how strong they are is measured from the file itself. */
async function numbersOf(
  context: StageContext,
  lora: SafetensorsFile,
  decomposed: readonly FactorModule[],
): Promise<{
  readonly modules: readonly ModuleNumbers[];
  readonly blocks: readonly string[];
  readonly notes: readonly string[];
}> {
  const { modules: facts, blocks } = reportLora(lora);
  const sigmas = new Map(decomposed.map(({ name, sigma }) => [name, sigma]));
  const base = parseReferences('frobenius', await readFile(inputOf(context, 'frobenius').path, 'utf8'));
  const others = facts.filter(({ module }) => !sigmas.has(module.name));
  const norms = await measureNorms(lora, others, {
    signal: context.signal,
    onProgress: (done, total) => context.report({ type: 'progress', done, total, unit: 'modules' }),
  });
  const modules = facts.map(({ module, place }): ModuleNumbers => {
    const baseNorm = base.get(module.name);
    return {
      name: module.name,
      block: place,
      sigma: sigmas.get(module.name),
      norm: norms.modules.get(module.name),
      baseNorm: typeof baseNorm === 'number' ? baseNorm : undefined,
    };
  });
  const magnitudes = facts.filter(({ module }) => module.family === 'DoRA' && sigmas.has(module.name)).length;
  const notes = [
    ...[...norms.unmeasured].map(([reason, { count, example }]) => {
      return `Without ‖ΔW‖: ${counted(count)} (such as ${example}) whose effect ${reason}.`;
    }),
    ...(norms.broken.length > 0 ? [`Not finite: ${counted(norms.broken.length)} (such as ${norms.broken[0]}).`] : []),
    ...(magnitudes > 0 ? [`Approximate: ${counted(magnitudes)} of DoRA, whose magnitudes are not counted.`] : []),
  ];
  return { modules, blocks: blocks.map(({ place }) => place), notes };
}

function counted(modules: number): string {
  return `${modules} ${modules === 1 ? 'module' : 'modules'}`;
}

async function readAblation(context: StageContext): Promise<Ablation | null> {
  const { ablation } = context.inputs;
  return ablation === undefined ? null : (JSON.parse(await readFile(ablation.path, 'utf8')) as Ablation);
}

/** Pictures have 8 bits, so less than one of 255 steps on average is mostly rounding, whatever was measured of it. */
function ablationNotes({ prompts }: Ablation): readonly string[] {
  const still = prompts.filter(({ distance }) => distance === 0).length;
  const isFaint = ({ distance, floor }: PromptAblation) => distance < 1 / 255 || (floor ?? 0) >= distance / 2;
  const faint = prompts.filter((prompt) => prompt.distance > 0 && isFaint(prompt)).length;
  const all = prompts.length;
  return [
    ...(still === all ? ['The LoRA changes nothing in the pictures of these prompts.'] : []),
    ...(still > 0 && still < all
      ? [`Left out of the shares: ${still} of ${all} prompts that the LoRA leaves as is.`]
      : []),
    ...(faint === all ? ['Mostly rounding: the LoRA hardly changes these pictures.'] : []),
    ...(faint > 0 && faint < all
      ? [`Mostly rounding: ${faint} of ${all} prompts, which the LoRA hardly changes.`]
      : []),
  ];
}

/** Its own file, since what a stage gives moves into the store. */
async function copyOfGrid(context: StageContext) {
  const { grid } = context.inputs;
  if (grid === undefined) return undefined;
  const copy = pathIn(context.work, 'grid.png');
  await copyFile(grid.path, copy, constants.COPYFILE_FICLONE);
  return copy;
}
