// What can be written at a place: from the schema table, and from the names of the program.

import { type CompletionItem, CompletionItemKind, InsertTextFormat, MarkupKind } from 'vscode-languageserver/node';
import { SDXL } from '../parser/blocks.ts';
import { trainingPictures } from '../parser/checking/run-outputs.ts';
import { cleanLine } from '../parser/clean-text.ts';
import { type Spot, spotAt } from '../parser/editing/spot.ts';
import { type Named, type Symbols, typesIn } from '../parser/editing/symbols.ts';
import { snippet } from '../parser/reading/literals.ts';
import { isName } from '../parser/reading/tokens.ts';
import { type BlockKind, blockDocs, blockKinds, fieldsOf, isBlockKind } from '../parser/schema/schema.ts';
import type { Fields, Setting, Type } from '../parser/schema/types.ts';
import { unreachable } from '../parser/unreachable.ts';
import type { OpenFile } from './open-file.ts';
import { rangeOf } from './positions.ts';
import { defaultOf, settingText, valueText } from './setting-text.ts';

/** One thing to write, before it has its place in the text. `$1`, `${2:name}` in `text` are stops of a snippet. */
interface Proposal {
  readonly label: string;
  readonly kind: CompletionItemKind;
  readonly text: string;
  readonly detail: string;
  readonly doc: string;
}

export function completionsAt(file: OpenFile, offset: number, withSnippets: boolean): CompletionItem[] {
  const { tokens, comments } = file.reading;
  const spot = spotAt({ source: file.source, tokens, comments }, offset);
  if (spot === undefined) return [];
  const range = rangeOf(spot.word);
  return proposalsFor(spot, file.symbols).map(({ label, kind, text, detail, doc }, index) => ({
    label,
    kind,
    detail,
    ...(doc === '' ? {} : { documentation: { kind: MarkupKind.Markdown, value: doc } }),
    // In the order of the table, what is needed first.
    sortText: String(index).padStart(4, '0'),
    insertTextFormat: withSnippets ? InsertTextFormat.Snippet : InsertTextFormat.PlainText,
    textEdit: { range, newText: withSnippets ? text : withoutStops(text) },
  }));
}

function proposalsFor(spot: Spot, symbols: Symbols): readonly Proposal[] {
  switch (spot.kind) {
    case 'statement':
      return [...blockKinds.map((kind) => blockProposal(kind, symbols)), ...statementWords];
    case 'setting':
      return settings(spot, symbols);
    case 'key':
      return keys(spot.type, symbols, spot.hasEquals).filter(({ label }) => !spot.written.has(label));
    case 'value':
      return [...values(spot.type, spot.setting, symbols), ...names(symbols.values)];
    case 'anything':
      return names([...symbols.values, ...(spot.inText ? [] : symbols.blocks)]);
    case 'choice':
      return choices;
    case 'other':
      return names(blocksOf([spot.blockKind], symbols));
    default:
      return unreachable(spot);
  }
}

const statementWords: readonly Proposal[] = [
  { word: 'let', text: `let ${stop(1, 'name')} = $0`, doc: 'A name for a value.' },
  {
    word: 'param',
    text: `param ${stop(1, 'name')} = $0`,
    doc: 'A name for a value that `lorac build -p name=other` can set.',
  },
].map(({ word, text, doc }) => ({ label: word, kind: CompletionItemKind.Keyword, text, detail: '', doc }));

const choices: readonly Proposal[] = [
  { word: 'best', text: 'best', doc: 'What the measured step with the lowest held-out loss gave. Needs `validation`.' },
  { word: 'ema', text: 'ema', doc: 'The moving average that it kept while it trained. Needs `ema`.' },
  { word: 'ema(…)', text: `ema(${stop(1, '0.9')})`, doc: 'The moving average over all that was saved.' },
].map(({ word, text, doc }) => ({ label: word, kind: CompletionItemKind.Function, text, detail: '', doc }));

/** A block with what it cannot do without. */
function blockProposal(kind: BlockKind, symbols: Symbols): Proposal {
  const needed = Object.entries(fieldsOf(kind)).filter(([, { required }]) => required);
  const lines = needed.map(([name, setting], index) => `  ${name} = ${stopFor(index + 2, setting, symbols)}\n`);
  const name = kind === 'save' ? `"${stop(1, 'name')}.safetensors"` : stop(1, 'name');
  const text = `${kind} ${name} {\n${lines.join('')}  $0\n}`;
  return { label: kind, kind: CompletionItemKind.Class, text, detail: 'block', doc: blockDocs[kind] };
}

/** A stop of a snippet with a value that fits, where the program has one. */
function stopFor(index: number, { type }: Setting, symbols: Symbols): string {
  const [first] = typesIn(type);
  const inner = first?.kind === 'list' ? first.of : first;
  const fitting = inner && 'to' in inner ? blocksOf(inner.to, symbols)[0]?.[0] : undefined;
  if (first?.kind === 'list' || first?.kind === 'weighted-references') return `[${stop(index, fitting ?? '')}]`;
  if (first?.kind === 'text') return `"${stop(index, '')}"`;
  return stop(index, fitting ?? '');
}

function settings(
  { fields, written, hasEquals, path }: Extract<Spot, { kind: 'setting' }>,
  symbols: Symbols,
): Proposal[] {
  const open = Object.entries<Setting>(fields as Fields).filter(([name]) => !written.has(name));
  const inOrder = [...open.filter(([, one]) => one.required), ...open.filter(([, one]) => !one.required)];
  return inOrder.map(([name, setting]) => ({
    label: name,
    kind: CompletionItemKind.Property,
    text: hasEquals ? name : `${name} = ${settingStop(setting, symbols)}`,
    detail: setting.required ? `${valueText(setting.type)} (has to be written)` : valueText(setting.type),
    doc: settingText([...path, name], setting),
  }));
}

/** What stands behind "=" when the name of a setting has been chosen: its default, to be typed over. */
function settingStop(setting: Setting, symbols: Symbols): string {
  const { type } = setting;
  if (setting.required) return stopFor(1, setting, symbols);
  if (type.kind === 'record' || type.kind === 'block-numbers' || type.kind === 'arguments' || type.kind === 'named')
    return '{ $1 }';
  const value = defaultOf(setting);
  if (value === undefined) return stopFor(1, setting, symbols);
  return type.kind === 'tagged' ? `${stop(1, value)} { $2 }` : stop(1, value);
}

function keys(type: Type, symbols: Symbols, hasEquals: boolean): Proposal[] {
  const equals = hasEquals ? '' : ` = ${stop(1, '1')}`;
  const found = type.kind === 'weighted-references' ? names(blocksOf(type.to, symbols)) : networkBlocks();
  return found.map((one) => ({ ...one, text: `${one.text}${equals}` }));
}

function values(type: Type, setting: Setting, symbols: Symbols): readonly Proposal[] {
  switch (type.kind) {
    case 'either':
      return type.of.flatMap((one) => values(one, setting, symbols));
    case 'reference':
    case 'weighted-references':
      return [
        ...names(blocksOf(withoutRuns(type.to), symbols)),
        ...runOutputs(type.to, symbols),
        ...(type.to.includes('run') ? picturesOfTrainings(symbols) : []),
      ];
    case 'words':
      return type.words.map((word) => wordProposal(word, setting));
    case 'boolean':
      return ['true', 'false'].map((word) => wordProposal(word, setting));
    case 'tagged':
      return Object.keys(type.variants).map((tag) => ({ ...wordProposal(tag, setting), text: `${tag} { $0 }` }));
    case 'network-block':
      return networkBlocks();
    case 'schedule':
      return [wordProposal('step', setting), ...usual(setting)];
    case 'list':
      return type.of.kind === 'network-block' || type.of.kind === 'reference' || type.of.kind === 'words'
        ? [{ ...wordProposal('[ ]', setting), text: '[$0]' }]
        : usual(setting);
    case 'record':
    case 'block-numbers':
    case 'arguments':
    case 'named':
      return [{ ...wordProposal('{ }', setting), text: '{ $0 }' }];
    default:
      return usual(setting);
  }
}

/** The default, as a place to start from. */
function usual(setting: Setting): readonly Proposal[] {
  const value = defaultOf(setting);
  if (value === undefined) return [];
  return [
    {
      ...wordProposal(value, setting),
      kind: CompletionItemKind.Value,
      text: stop(1, value),
      detail: 'default',
    },
  ];
}

function wordProposal(word: string, setting: Setting): Proposal {
  const detail = defaultOf(setting) === word ? 'default' : '';
  return { label: word, kind: CompletionItemKind.EnumMember, text: word, detail, doc: setting.doc };
}

function networkBlocks(): readonly Proposal[] {
  const groups = Object.entries(SDXL.groups).map(([group, blocks]) => [group, blocks.join(', ')] as const);
  const single = SDXL.blocks.map((block) => [block, ''] as const);
  return [...groups, ...single].map(([name, stands]) => ({
    label: name,
    kind: CompletionItemKind.EnumMember,
    text: name,
    detail: 'block of the network',
    doc: stands === '' ? '' : `Stands for ${stands}.`,
  }));
}

/** By what the file writes: the names of an imported file may have one before them. */
function names(found: Iterable<readonly [string, Named]>): Proposal[] {
  // A name in quotes may be no word, and then nobody can use it.
  const usable = [...found].filter(([written]) => written.split('.').every(isName));
  return usable.map(([written, { statement }]) => {
    const isBlock = statement.kind === 'block';
    return {
      label: written,
      kind: isBlock ? CompletionItemKind.Class : CompletionItemKind.Variable,
      text: written,
      detail: detailOf(statement),
      doc: isBlock && isBlockKind(statement.blockKind.text) ? blockDocs[statement.blockKind.text] : '',
    };
  });
}

function detailOf(statement: Named['statement']): string {
  if (statement.kind === 'block') return cleanLine(statement.blockKind.text);
  if (statement.kind === 'import' || statement.value === undefined) return statement.kind;
  return cleanLine(`${statement.kind} = ${snippet(statement.value.span)}`);
}

/** `report.text`, and of the runs of a place that takes LoRAs alone, what they write as LoRAs. */
function runOutputs(kinds: readonly string[], symbols: Symbols): Proposal[] {
  const takesAll = kinds.includes('run');
  if (!takesAll && !kinds.includes('lora')) return [];
  return blocksOf(['run'], symbols).flatMap(([name, { statement }]) => {
    const outputs =
      statement.kind === 'block' ? statement.attributes.find((one) => one.name.text === 'outputs') : undefined;
    if (outputs?.value.kind !== 'record') return [];
    const fitting = outputs.value.entries.filter(
      ({ name: output, value }) => isName(output.text) && (takesAll || /\.safetensors["']$/i.test(snippet(value.span))),
    );
    return fitting.map(({ name: output, value }) => ({
      label: `${name}.${output.text}`,
      kind: CompletionItemKind.File,
      text: `${name}.${output.text}`,
      detail: `run writes ${cleanLine(snippet(value.span))}`,
      doc: '',
    }));
  });
}

/** `raw.montage`, of trainings that make pictures. */
function picturesOfTrainings(symbols: Symbols): Proposal[] {
  const isPictured = ({ statement }: Named) =>
    statement.kind === 'block' && statement.attributes.some(({ name }) => name.text === 'sample');
  return blocksOf(['train'], symbols)
    .filter(([, named]) => isPictured(named))
    .flatMap(([name]) =>
      trainingPictures.map((picture) => ({
        label: `${name}.${picture.name}`,
        kind: CompletionItemKind.File,
        text: `${name}.${picture.name}`,
        detail: `the pictures of all steps, a ${picture.suffix} file`,
        doc: '',
      })),
    );
}

/** A run alone does not say which of its outputs is meant. */
const withoutRuns = (kinds: readonly string[]) => kinds.filter((kind) => kind !== 'run');

const kindOf = ({ statement }: Named) => (statement.kind === 'block' ? statement.blockKind.text : undefined);

function blocksOf(kinds: readonly string[], symbols: Symbols): (readonly [string, Named])[] {
  return [...symbols.blocks].filter(([, named]) => kinds.includes(kindOf(named) ?? ''));
}

/** A place in a snippet that the cursor comes to, with a text that is typed over. */
function stop(index: number, text: string): string {
  return `\${${index}:${escaped(text)}}`;
}

function escaped(text: string): string {
  return text.replaceAll(/[\\$}]/g, '\\$&');
}

/** The same text for an editor that knows no snippets. */
function withoutStops(text: string): string {
  return text
    .replaceAll(/\$\{\d+:((?:\\.|[^\\}])*)\}/g, '$1')
    .replaceAll(/\$\{?\d+\}?/g, '')
    .replaceAll(/\\([\\$}])/g, '$1');
}
