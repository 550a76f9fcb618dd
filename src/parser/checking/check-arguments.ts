// Settings that are passed on to someone else, such as the constructor of a Python class: any names, plain values.

import * as problem from '../diagnostics/diagnostics.ts';
import type { Expression } from '../reading/ast.ts';
import { number, type Type, text } from '../schema/types.ts';
import type { Span } from '../source.ts';
import type { Argument, Arguments } from '../values.ts';
import { checkNumber } from './check-number.ts';
import { checkText } from './check-text.ts';
import { resolve, type Scope } from './scope.ts';
import { type Written, wrongType } from './written.ts';

export function checkArguments(scope: Scope, type: Type, name: string, written: Written): Arguments | undefined {
  const { value } = written;
  if (value.kind !== 'record' || value.tag !== undefined) return wrongType(scope, type, name, written);
  const places = new Map<string, Span>();
  const values: [string, Argument | undefined][] = [];
  for (const entry of value.entries) {
    const first = places.get(entry.name.text);
    if (first === undefined) places.set(entry.name.text, entry.name.span);
    else scope.report(problem.duplicateAttribute(entry.name, first));
    const argument = checkArgument(scope, type, entry.name.text, entry.value);
    values.push([entry.name.text, first === undefined ? argument : undefined]);
  }
  const whole = values.filter((pair): pair is [string, Argument] => pair[1] !== undefined);
  return whole.length === values.length ? Object.fromEntries(whole) : undefined;
}

const constants: ReadonlyMap<string, Argument> = new Map<string, Argument>([
  ['true', true],
  ['false', false],
  ['none', null],
]);

function checkArgument(scope: Scope, type: Type, name: string, expression: Expression): Argument | undefined {
  const written = resolve(scope, expression, ({ text }) => constants.has(text));
  if (written === undefined) return undefined;
  const { value } = written;
  switch (value.kind) {
    case 'number':
    case 'negate':
    case 'binary':
      return checkNumber(scope, number(), name, written);
    case 'text':
      return checkText(scope, { kind: 'text', what: 'text' }, name, written);
    case 'word': {
      const constant = constants.get(value.text);
      return constant === undefined ? wrongType(scope, text(), name, written) : constant;
    }
    case 'list': {
      if (value.tag !== undefined) return wrongType(scope, type, name, written);
      const items = value.items.map((item) => checkArgument(scope, type, name, item));
      return items.some((item) => item === undefined) ? undefined : (items as Argument[]);
    }
    case 'record':
      return checkArguments(scope, type, name, written);
    case 'broken':
      return undefined;
    default:
      return wrongType(scope, type, name, written);
  }
}
