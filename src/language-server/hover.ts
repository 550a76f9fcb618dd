// What an editor shows about the word under the pointer.

import { basename } from 'node:path';
import { type Hover, MarkupKind } from 'vscode-languageserver/node';
import { blocksNamed } from '../parser/blocks.ts';
import { cleanLine } from '../parser/clean-text.ts';
import type { Diagnostic } from '../parser/diagnostics/diagnostics.ts';
import { type Meaning, meaningAt, type Named, type Place, placesOfName, typesIn } from '../parser/editing/symbols.ts';
import { explanationOf, meansOf } from '../parser/explanations/explanations.ts';
import type { CheckedProgram } from '../parser/model.ts';
import { snippet } from '../parser/reading/literals.ts';
import { blockDocs, isBlockKind } from '../parser/schema/schema.ts';
import { positionOf } from '../parser/source.ts';
import { rerunBy } from './effects.ts';
import { writtenName } from './lenses.ts';
import type { OpenFile } from './open-file.ts';
import { rangeOf } from './positions.ts';
import type { Project } from './project.ts';
import { defaultOf, settingText } from './setting-text.ts';

export interface HoverContext {
  readonly file: OpenFile;
  /** The last version of the program that had no mistakes. */
  readonly program: CheckedProgram | undefined;
  readonly project: Project;
  readonly diagnostics: readonly Diagnostic[];
}

export function hoverAt(context: HoverContext, offset: number): Hover | null {
  const meaning = meaningAt(context.file.symbols, offset);
  const explained = explanationsAt(context, offset);
  const texts = [...(meaning === undefined ? [] : [textOf(context, meaning)]), ...explained.map(({ text }) => text)];
  const span = meaning?.span ?? explained[0]?.span;
  if (span === undefined) return null;
  return { contents: { kind: MarkupKind.Markdown, value: texts.join('\n\n---\n\n') }, range: rangeOf(span) };
}

/** What the problems at a place mean: the editor shows beside it what is wrong just here. */
function explanationsAt({ file, diagnostics }: HoverContext, offset: number) {
  return diagnostics.flatMap(({ code, span }) => {
    const isHere = span.source === file.source && span.start <= offset && offset <= span.end;
    const explanation = isHere ? explanationOf(code) : undefined;
    if (explanation === undefined) return [];
    return [{ span, text: `\`${code}\`: ${meansOf(explanation)} \`lorac explain ${code}\` shows an example.` }];
  });
}

function textOf(context: HoverContext, meaning: Meaning): string {
  switch (meaning.kind) {
    case 'block-kind':
      return `\`${meaning.blockKind}\`\n\n${meaning.doc}`;
    case 'attribute':
      return [settingText(meaning.place.path, meaning.place.setting), effectText(context, meaning.place)].join('\n\n');
    case 'tag':
      return tagText(meaning.tag, meaning.place);
    case 'word':
      return wordText(meaning.word, meaning.place);
    case 'file':
      return code(meaning.source.path);
    default:
      return nameText(context.file, meaning.of);
  }
}

function nameText(file: OpenFile, named: Named): string {
  const uses = placesOfName(file.symbols, named).length - 1;
  const used = uses === 0 ? 'Nothing uses it.' : `Used in ${uses} ${uses === 1 ? 'place' : 'places'}.`;
  const { source } = named.span;
  const where = `${source === file.source ? 'Line' : `\`${cleanLine(basename(source.path))}\`, line`} ${positionOf(named.span).line}. ${used}`;
  const { statement } = named;
  if (statement.kind === 'import') return [code(`import … as ${named.name}`), where].join('\n\n');
  if (statement.kind === 'block') {
    const kind = statement.blockKind.text;
    return [code(`${kind} ${named.name}`), isBlockKind(kind) ? blockDocs[kind] : '', where].join('\n\n');
  }
  const value = statement.value === undefined ? '' : ` = ${snippet(statement.value.span)}`;
  const set = statement.kind === 'param' ? `\`lorac build -p ${named.name}=…\` sets it.` : '';
  return [code(`${statement.kind} ${named.name}${value}`), set, where].filter((text) => text !== '').join('\n\n');
}

/** In a fence, where nothing of it is markup. */
const code = (text: string) => `\`\`\`lora\n${cleanLine(text).replaceAll('```', "'''")}\n\`\`\``;

function tagText(tag: string, { path, setting }: Place): string {
  const tagged = typesIn(setting.type, 'tagged')[0];
  const fields = tagged?.kind === 'tagged' ? Object.entries(tagged.variants[tag] ?? {}) : [];
  const rows = fields.map(([name, one]) => {
    const value = defaultOf(one);
    return `- \`${name}\`${value === undefined ? '' : ` = \`${value}\``}: ${one.doc}`;
  });
  return [`\`${path.join('.')} = ${tag}\``, setting.doc, rows.join('\n') || 'It has no settings.'].join('\n\n');
}

function wordText(word: string, { path, setting }: Place): string {
  const blocks = blocksNamed(word);
  const isOfNetwork = JSON.stringify(setting.type).match(/"network-block"|"block-numbers"/) !== null;
  const stands = isOfNetwork && blocks !== undefined ? `\`${word}\`: ${blocks.join(', ')}` : `\`${word}\``;
  return [stands, settingText(path, setting)].join('\n\n');
}

const MOST_NODES = 12;

function effectText({ program, project }: HoverContext, { block, path, setting }: Place): string {
  const name = block.name !== undefined && 'text' in block.name ? block.name.text : undefined;
  const checked = program?.blocks.filter(
    (one) =>
      one.kind === block.blockKind.text &&
      (name === undefined ? one.span.start === block.header.start : writtenName(one) === name),
  );
  const rerun =
    program && checked?.length
      ? rerunBy(program, { blocks: checked, path, type: setting.type }, (one) => project.graphOf(one))
      : undefined;
  // Where one other value changes nothing, a third may: a score of one part is the same whatever its weight.
  if (rerun === undefined || rerun.length === 0) {
    return setting.fingerprint
      ? 'A change of it makes the result again.'
      : 'A change of it never makes anything again.';
  }
  const shown = rerun.slice(0, MOST_NODES).map((node) => `\`${cleanLine(node)}\``);
  const more = rerun.length > MOST_NODES ? ` and ${rerun.length - MOST_NODES} more` : '';
  return `A change of it runs again: ${shown.join(', ')}${more}.`;
}
