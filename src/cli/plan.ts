// lorac plan, and lorac build --dry-run: what would run, and why. Runs nothing, and starts no Python.

import { cleanLine, jsonLine } from '../parser/clean-text.ts';
import { type PlannedNode, planBuild } from '../runtime/executor/build.ts';
import { reasonInWords } from '../tui/reason.ts';
import { compileOrExplain, type ProgramOptions } from './compile-file.ts';
import { graphOf, requireNames, storeOf } from './graph.ts';
import { splitArguments } from './program-file.ts';
import { listenForStop } from './stop.ts';

export interface PlanOptions extends ProgramOptions {
  readonly targets: readonly string[];
  readonly rerun: readonly string[];
  readonly format: 'text' | 'json';
}

export async function plan(options: PlanOptions): Promise<number> {
  const { file, targets } = splitArguments(options.file, options.targets);
  const { rerun, format } = options;
  const program = compileOrExplain({ ...options, file });
  if (program === undefined) return 2;
  const graph = graphOf(program);
  requireNames(graph, targets, rerun);
  using stop = listenForStop();
  const { nodes, warnings } = await planBuild({
    graph,
    store: storeOf(program, warn),
    targets,
    rerun,
    signal: stop.signal,
    listener: (event) => {
      if (event.type === 'message') process.stderr.write(`${cleanLine(event.message)}\n`);
    },
  });
  if (stop.signal.aborted) return 130;
  if (format === 'json') process.stdout.write(`${jsonLine({ nodes, warnings })}\n`);
  else {
    const width = Math.max(...nodes.map(({ node }) => node.length));
    for (const node of nodes) process.stdout.write(`${lineOf(node, width)}\n`);
    warnings.forEach(warn);
    process.stdout.write(`${tally(nodes)}\n`);
  }
  return nodes.some(({ status }) => status === 'fails') ? 1 : 0;
}

function warn(message: string): void {
  process.stderr.write(`warning: ${cleanLine(message)}\n`);
}

const marks = { fresh: '=', runs: '+', waits: '?', fails: '✗', skipped: '-' } as const;

function lineOf(planned: PlannedNode, width: number): string {
  const start = `${marks[planned.status]} ${cleanLine(planned.node).padEnd(width)}  ${planned.status.padEnd(5)}`;
  if (planned.status === 'fresh') return start;
  if (planned.status === 'skipped') return `${start}  needs ${cleanLine(planned.cause)}`;
  if (planned.status !== 'fails') return `${start}  ${reasonInWords(planned.because)}`;
  const { message, hint, problems } = planned.failure;
  return [
    `${start}  ${cleanLine(message)}`,
    ...problems.map((problem) => cleanLine(`    ${problem.path}: ${problem.message}`)),
    ...(hint === undefined ? [] : [cleanLine(`  hint: ${hint}`)]),
  ].join('\n');
}

function tally(nodes: readonly PlannedNode[]): string {
  const counted = (status: PlannedNode['status']) => nodes.filter((node) => node.status === status).length;
  const parts = [
    [counted('runs'), 'would run'],
    [counted('waits'), 'would run unless what they wait for comes out as it was'],
    [counted('fails'), 'cannot begin'],
    [counted('skipped'), 'would be skipped'],
    [counted('fresh'), 'fresh'],
  ] as const;
  return `${parts.flatMap(([number, words]) => (number === 0 ? [] : [`${number} ${words}`])).join(', ')}.`;
}
