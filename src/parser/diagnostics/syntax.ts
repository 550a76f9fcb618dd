// Problems with how a program is written, sorted by code.

import type { Name } from '../reading/ast.ts';
import { quote, snippet } from '../reading/literals.ts';
import type { Span } from '../source.ts';
import { type Diagnostic, error, replace } from './diagnostic.ts';

/** `text` is what stands between the quotes, `whole` is the text with them. */
export function badEscape(span: Span, text: string, whole: Span): Diagnostic {
  return error('bad-escape', span, {
    message: `"${snippet(span)}" means nothing in double quotes.`,
    hint: `Text with backslashes stands in single quotes: ${quote(text)}. In paths forward slashes work as well.`,
    // "${name}" would say nothing in single quotes.
    fix: text.includes('${') ? undefined : replace(whole, quote(text)),
  });
}

export function badName(span: Span): Diagnostic {
  const name = snippet(span);
  const better = name.replaceAll(/\W+/g, '_').replace(/^(?=\d)/, '_');
  return error('bad-name', span, {
    message: `"${name}" cannot be a name: names are letters, digits and "_", and begin with a letter.`,
    hint: `A name that works: ${better}`,
  });
}

export function bareText(span: Span, text: string): Diagnostic {
  const quoted = quote(text);
  return error('bare-text', span, {
    message: snippet(span).endsWith('"')
      ? 'This text has a closing quote, and no opening one.'
      : `Text stands in quotes, and "${snippet(span)}" has none.`,
    hint: `Write ${quoted}`,
    fix: replace(span, quoted),
  });
}

export function colon(span: Span): Diagnostic {
  return error('colon', span, {
    message: 'A value follows "=", not ":".',
    hint: 'Write =',
    fix: replace(span, ' ='),
  });
}

export function emptyInterpolation(span: Span): Diagnostic {
  return error('empty-interpolation', span, {
    message: `There is nothing between "\${" and "}".`,
    hint: `Write the name of a param or a let, or "\\\${" for the two characters themselves.`,
  });
}

export function extraEquals(span: Span): Diagnostic {
  return error('extra-equals', span, {
    message: `There is no "${snippet(span)}" between the name of a block and its "{".`,
    hint: 'Take it out.',
    fix: replace(span, ''),
  });
}

/** `instead` is the `:` or `=` that stands where the brace should. */
export function missingBrace(header: Span, instead: Span | undefined): Diagnostic {
  return error('missing-brace', header, {
    message: `"${snippet(header)}" is not followed by "{".`,
    hint: 'Put the attributes in braces: { … }',
    fix: replace(instead ?? { ...header, start: header.end }, ' {'),
  });
}

export function missingComma(before: Span): Diagnostic {
  const at = { ...before, start: before.end };
  return error('missing-comma', before, {
    message: 'There is no comma after this.',
    hint: 'Put commas between the items of a list.',
    fix: replace(at, ','),
  });
}

export function missingEquals(name: Name, value: Span): Diagnostic {
  return error('missing-equals', name.span, {
    message: `There is no "=" after "${name.text}".`,
    hint: `Write ${name.text} = ${snippet(value)}`,
    fix: replace({ ...name.span, start: name.span.end }, ' ='),
  });
}

export function missingName(kind: Name): Diagnostic {
  return error('missing-name', kind.span, {
    message: `This ${kind.text} block has no name.`,
    hint:
      kind.text === 'save'
        ? 'Write the path to save to: save "name.safetensors" { … }'
        : `Write ${kind.text} name { … }`,
  });
}

export function missingValue(name: Name, at: Span): Diagnostic {
  return error('missing-value', at, { message: `"${name.text}" has no value.`, hint: `Write ${name.text} = …` });
}

export function oddNumber(span: Span, text: string): Diagnostic {
  const [, digits = '', unit = ''] = /^([\d._]+?)_*([A-Za-z]\w*)?$/.exec(text) ?? [];
  const minutes = unit === 'm' || unit === 'mins' || unit === 'minutes' ? `${digits}min` : undefined;
  const seconds = /^sec(?:onds?|s)?$/.test(unit) ? `${digits}s` : undefined;
  const hours = /^(?:hours?|hr?s?)$/.test(unit) ? `${digits}h` : undefined;
  const plain = /^(?:steps?|images?)$/.test(unit) ? digits : undefined;
  const pixels = /^(?:pix|pixels?)$/i.test(unit) ? `${digits}px` : undefined;
  const better = minutes ?? seconds ?? hours ?? pixels ?? plain;
  return error('odd-number', span, {
    message: unit === '' ? `"${text}" is not a number.` : `"${unit}" is not a unit.`,
    hint: better
      ? `Write ${better}`
      : 'Units are s, min and h, px, MB and the like, and %. Sizes are written 1024x768.',
    fix: better ? replace(span, better) : undefined,
  });
}

export function oddQuotes(span: Span, text: string): Diagnostic {
  return error('odd-quotes', span, {
    message: 'Text stands in straight quotes, and these are others.',
    hint: `Write ${quote(text)}`,
    fix: replace(span, quote(text)),
  });
}

export function oddSize(span: Span, text: string): Diagnostic {
  const size = text.replace(/[\sx\u00d7]+/i, 'x');
  return error('odd-number', span, {
    message: `A size is written with an "x" and no blanks.`,
    hint: `Write ${size}`,
    fix: replace(span, size),
  });
}

/** `rest`: what stands behind "${" up to the quote that ends the text. */
export function openInterpolation(span: Span, rest: string): Diagnostic {
  // A quote inside of "${…}" ends the text, and was meant to begin another.
  const isCut = /(?:^|[(,+])\s*$/.test(rest);
  return error('open-interpolation', span, {
    message: `This "\${" has no "}" before the text ends.`,
    hint: isCut
      ? `Inside of it, text has the other quotes: "\${env('NAME', 'default')}"`
      : `Write "\\\${" for the two characters themselves.`,
  });
}

export function openText(span: Span, quote: string): Diagnostic {
  // A single word can end nowhere else; of several, some may be a comment or the next attribute.
  const isWord = /^["'][^\s"'#={}[\],\\]+$/.test(snippet(span)) && span.end - span.start <= 40;
  return error('open-text', span, {
    message: `This text has no closing ${quote} on its line.`,
    hint: `Put ${quote} where the text ends.`,
    fix: isWord ? replace({ ...span, start: span.end }, quote) : undefined,
  });
}

export function outsideBlock(span: Span): Diagnostic {
  return error('outside-block', span, {
    message: `"${snippet(span)}" stands outside of every block.`,
    hint: 'Put it between the braces of a block, or define a name with: let name = value',
  });
}

export function slashStar(span: Span): Diagnostic {
  return error('slash-star', span, {
    message: 'There are no comments between "/*" and "*/".',
    hint: 'A comment begins with # or // and ends with its line.',
  });
}

export function tooDeep(span: Span): Diagnostic {
  return error('too-deep', span, { message: 'This is nested too deeply.', hint: 'Take a part of it out into a let.' });
}

export function unclosed(at: {
  readonly opener: Span;
  readonly header: Span | undefined;
  readonly next: Span | undefined;
}): Diagnostic {
  const opener = snippet(at.opener);
  const closer = { '{': '}', '[': ']', '(': ')' }[opener] ?? '}';
  return error('unclosed', at.opener, {
    message: at.header ? `The block "${snippet(at.header)}" is not closed.` : `This "${opener}" is not closed.`,
    related: at.next ? [{ message: 'It would have to be closed before this', span: at.next }] : [],
    hint: `Add "${closer}" where it ends.`,
  });
}

export function unexpected(span: Span, what: string, wanted: string | undefined): Diagnostic {
  return error('unexpected', span, {
    message: `${what} cannot stand here.`,
    hint: wanted,
  });
}

/** `3,55` for a number: `comma` is where the comma stands, `number` what was meant. */
export function decimalComma(span: Span, comma: Span, number: string): Diagnostic {
  return error('unexpected', span, {
    message: `"${snippet(span)}" cannot stand here.`,
    hint: `Numbers have a point: ${number}`,
    fix: replace(comma, '.'),
  });
}

export function unexpectedCharacter(span: Span): Diagnostic {
  const text = snippet(span);
  // The wide forms that East Asian keyboards give.
  const narrow = text.normalize('NFKC');
  const hint = narrow === text ? hintOn[text] : `Write ${narrow}`;
  // `;` between attributes says nothing; a wide sign says what its narrow one does.
  const fix = narrow !== text ? replace(span, narrow) : /^;+$/.test(text) ? replace(span, '') : undefined;
  return error('unexpected-character', span, { message: `"${text}" means nothing here.`, hint, fix });
}

const hintOn: { readonly [character: string]: string } = {
  ';': 'Nothing is needed between attributes.',
  '%': 'A percentage has its sign right behind the number: 50%',
  '>': 'An attribute is written name = value.',
};

export function unopened(span: Span, closer: string): Diagnostic {
  return error('unopened', span, {
    message: `There is nothing open that this "${closer}" could close.`,
    hint: 'Take it out.',
    fix: replace(span, ''),
  });
}
