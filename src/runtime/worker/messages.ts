// Lines from the worker become precise here and are never checked again.
// A line that is no message is a `ProtocolError`, which says what was wrong and shows the beginning of the line.

import { cleanLine } from '../../parser/clean-text.ts';
import type { FileProblem } from '../events.ts';
import { type FromWorker, PROTOCOL, type WorkerFailure } from './protocol.ts';

/** The other side said something that this version does not understand. */
export class ProtocolError extends Error {}

export function parseFromWorker(line: string): FromWorker {
  try {
    return parseMessage(JSON.parse(line));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof ProtocolError)) throw error;
    const reason = error instanceof ProtocolError ? error.message : 'it is not JSON';
    const start = cleanLine(line.slice(0, 200));
    throw new ProtocolError(`The worker sent a line that is no message (${reason}): ${start}`);
  }
}

function parseMessage(value: unknown): FromWorker {
  const message = record(value, 'message');
  switch (message.type) {
    case 'hello':
      return parseHello(message);
    case 'progress':
      return {
        type: 'progress',
        id: whole(message, 'id'),
        done: number(message, 'done'),
        total: number(message, 'total'),
        unit: text(message, 'unit'),
        ...(message.note === undefined ? {} : { note: text(message, 'note') }),
      };
    case 'step':
      return {
        type: 'step',
        id: whole(message, 'id'),
        step: whole(message, 'step'),
        total: whole(message, 'total'),
        loss: numberOrNull(message, 'loss'),
        learning_rates: mapValues(record(message.learning_rates, 'learning_rates'), numberOrNull),
        grad_norm: numberOrNull(message, 'grad_norm'),
        seconds: number(message, 'seconds'),
      };
    case 'artifact':
      return { type: 'artifact', id: whole(message, 'id'), name: text(message, 'name'), path: text(message, 'path') };
    case 'log':
      return {
        type: 'log',
        id: whole(message, 'id'),
        level: oneOf(message, 'level', ['info', 'warning']),
        message: text(message, 'message'),
      };
    case 'result':
      return {
        type: 'result',
        id: whole(message, 'id'),
        outputs: mapValues(record(message.outputs, 'outputs'), text),
      };
    case 'failure':
      return {
        type: 'failure',
        id: whole(message, 'id'),
        failure: parseFailure(record(message.failure, 'failure')),
      };
    default:
      throw new ProtocolError(`its type is ${shown(message.type)}`);
  }
}

/** Another version's hello may have other fields, so the number is looked at first and nothing else is required. */
function parseHello(message: Fields): FromWorker & { type: 'hello' } {
  const protocol = whole(message, 'protocol');
  if (protocol !== PROTOCOL) {
    return { type: 'hello', protocol, python: '', torch: '', device: 'cpu', deviceName: '', threads: 0 };
  }
  return {
    type: 'hello',
    protocol,
    python: text(message, 'python'),
    torch: text(message, 'torch'),
    device: oneOf(message, 'device', ['cuda', 'mps', 'cpu']),
    deviceName: text(message, 'deviceName'),
    threads: whole(message, 'threads'),
  };
}

function parseFailure(fields: Fields): WorkerFailure {
  const problems = fields.problems;
  if (!Array.isArray(problems)) throw new ProtocolError(`"problems" is ${shown(problems)}`);
  return {
    kind: oneOf(fields, 'kind', ['cancelled', 'bad-input', 'out-of-memory', 'out-of-space', 'non-finite', 'internal']),
    message: text(fields, 'message'),
    hint: fields.hint === null ? null : text(fields, 'hint'),
    problems: problems.map(parseProblem),
  };
}

function parseProblem(value: unknown): FileProblem {
  const problem = record(value, 'problem');
  return { path: text(problem, 'path'), message: text(problem, 'message') };
}

type Fields = { readonly [name: string]: unknown };

function record(value: unknown, name: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProtocolError(`"${name}" is ${shown(value)}, and an object is needed`);
  }
  return value as Fields;
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new ProtocolError(`"${name}" is ${shown(value)}, and a string is needed`);
  return value;
}

function number(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== 'number') throw new ProtocolError(`"${name}" is ${shown(value)}, and a number is needed`);
  return value;
}

function numberOrNull(fields: Fields, name: string): number | null {
  return fields[name] === null ? null : number(fields, name);
}

function whole(fields: Fields, name: string): number {
  const value = number(fields, name);
  if (!Number.isSafeInteger(value)) throw new ProtocolError(`"${name}" is ${value}, and a whole number is needed`);
  return value;
}

function oneOf<const Word extends string>(fields: Fields, name: string, words: readonly Word[]): Word {
  const word = words.find((each) => each === fields[name]);
  if (word === undefined) throw new ProtocolError(`"${name}" is ${shown(fields[name])}`);
  return word;
}

function mapValues<Value>(fields: Fields, parse: (fields: Fields, name: string) => Value): { [name: string]: Value } {
  return Object.fromEntries(Object.keys(fields).map((name) => [name, parse(fields, name)]));
}

function shown(value: unknown): string {
  return value === undefined ? 'missing' : (JSON.stringify(value) ?? String(value)).slice(0, 60);
}
