// The TextMate grammar: colours for editors that read no more than regular expressions. Its words come from the schema
// table, so that it cannot fall behind; what a word means in its place is for the language server to say.

import { blockKinds, fieldsOf } from '../schema/schema.ts';
import type { Fields, Type } from '../schema/types.ts';

/** The whole of `grammar/lora.tmLanguage.json`. */
export function textMateText(): string {
  return `${JSON.stringify(grammar(), null, 2)}\n`;
}

const number = '(?:\\d[\\d_]*(?:\\.[\\d_]*)?|\\.\\d[\\d_]*)(?:[eE][-+]?\\d+)?';
const word = '[\\p{L}_][\\p{L}\\d_]*';
/** Words may have dots in them, and then are others. */
const alone = (words: Iterable<string>) => `(?<![\\p{L}\\d_.])(?:${[...words].join('|')})(?![\\p{L}\\d_.])`;

function grammar() {
  const kinds = blockKinds.join('|');
  const tags = tagsOf(blockKinds.map(fieldsOf));
  const block = {
    comment: 'A word before a name and a brace, or before a name and "extends", begins a block wherever it stands.',
    match: `(?<![\\p{L}\\d_.])(${kinds})\\s+(${word}(?:\\.${word})?)(?:\\s+(extends)\\s+(${word}(?:\\.${word})?))?(?=\\s*\\{)`,
    captures: {
      1: { name: 'keyword.control.block.lora' },
      2: { name: 'entity.name.type.block.lora' },
      3: { name: 'keyword.other.extends.lora' },
      4: { name: 'entity.other.inherited-class.lora' },
    },
  };
  return {
    $schema: 'https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json',
    name: 'lora',
    scopeName: 'source.lora',
    fileTypes: ['lora'],
    patterns: [{ include: '#anything' }],
    repository: {
      anything: {
        patterns: [
          { include: '#comments' },
          block,
          {
            comment: 'A block whose name is a text.',
            match: `(?<![\\p{L}\\d_.])(${kinds})(?=\\s*["'{])`,
            name: 'keyword.control.block.lora',
          },
          {
            match: `(?<![\\p{L}\\d_.])(let|param)\\s+(${word})(?=\\s*=|\\s*$)`,
            captures: { 1: { name: 'keyword.other.lora' }, 2: { name: 'variable.other.constant.lora' } },
          },
          {
            match: `(?<![\\p{L}\\d_.])(import)(?=\\s*["'])`,
            captures: { 1: { name: 'keyword.control.import.lora' } },
          },
          {
            comment: 'A setting.',
            match: `(${word}(?:\\.[\\p{L}\\d_]+)*)\\s*(=)`,
            captures: { 1: { name: 'variable.other.property.lora' }, 2: { name: 'keyword.operator.assignment.lora' } },
          },
          { include: '#texts' },
          { include: '#numbers' },
          { match: alone(['sweep']), name: 'keyword.control.sweep.lora' },
          { match: alone(['true', 'false']), name: 'constant.language.boolean.lora' },
          { match: `${alone(['env'])}(?=\\s*\\()`, name: 'support.function.lora' },
          {
            match: `(@)\\s*(${word})?`,
            captures: { 1: { name: 'keyword.operator.step.lora' }, 2: { name: 'constant.other.step.lora' } },
          },
          { match: alone(tags), name: 'support.type.lora' },
          { match: alone(['(?:IN|INP|MID|OUT)\\d{0,2}', 'TE[12]?', 'REST']), name: 'constant.other.block.lora' },
          { match: '\\*\\*|[-+*/\u2212]', name: 'keyword.operator.arithmetic.lora' },
        ],
      },
      comments: { match: '(?:#|//)[^\\r\\n]*', name: 'comment.line.lora' },
      numbers: {
        patterns: [
          { match: '(?<![\\p{L}\\d_.])[1-9]\\d*x[1-9]\\d*(?![\\w.])', name: 'constant.numeric.size.lora' },
          { match: `(?<![\\p{L}\\d_])(?:${number}(?:h|min|s)){2,}(?![\\w.])`, name: 'constant.numeric.duration.lora' },
          {
            match: `(?<![\\p{L}\\d_])${number}(s|min|h|px|%|[kKMGT]i?B)?(?![\\w.])`,
            name: 'constant.numeric.lora',
            captures: { 1: { name: 'keyword.other.unit.lora' } },
          },
        ],
      },
      texts: {
        patterns: [
          {
            begin: '"',
            end: '"|(?=[\\r\\n])|$',
            name: 'string.quoted.double.lora',
            patterns: [
              { match: '\\\\.', name: 'constant.character.escape.lora' },
              {
                begin: '\\$\\{',
                end: '\\}|(?=["\\r\\n])|$',
                name: 'meta.embedded.lora',
                beginCaptures: { 0: { name: 'punctuation.section.embedded.begin.lora' } },
                endCaptures: { 0: { name: 'punctuation.section.embedded.end.lora' } },
                patterns: [
                  { include: '#numbers' },
                  { match: word, name: 'variable.other.lora' },
                  { match: '\\*\\*|[-+*/]', name: 'keyword.operator.arithmetic.lora' },
                ],
              },
            ],
          },
          { match: "'[^'\\r\\n]*'?", name: 'string.quoted.single.lora' },
        ],
      },
    },
  };
}

/** Every word that braces may follow, in the order of the alphabet. Other words could be names: the server knows. */
function tagsOf(all: readonly Fields[]): readonly string[] {
  const tags = new Set<string>();
  const ofFields = (fields: Fields): void => Object.values(fields).forEach(({ type }) => void ofType(type));
  const ofType = (type: Type): void => {
    if (type.kind === 'either') type.of.forEach(ofType);
    if (type.kind === 'list') ofType(type.of);
    if (type.kind === 'record') ofFields(type.fields);
    if (type.kind !== 'tagged') return;
    for (const [tag, fields] of Object.entries(type.variants)) {
      tags.add(tag);
      ofFields(fields);
    }
  };
  all.forEach(ofFields);
  return [...tags].toSorted();
}
