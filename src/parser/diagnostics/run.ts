// Problems with the user's own commands, sorted by code.

import type { Span } from '../source.ts';
import { enumerate } from './describe.ts';
import { type Diagnostic, error, replace } from './diagnostic.ts';

export function formatOfFile(span: Span, from: string): Diagnostic {
  return error('format-of-file', span, {
    message: `"format" says what modules of a LoRA are called, and "${from}" is none.`,
    hint: 'Leave it out. A LoRA that a run writes has a name in .safetensors.',
  });
}

export function inputAndOutput(span: Span, name: string): Diagnostic {
  return error('input-and-output', span, {
    message: `"${name}" is the name of an input and of an output, and {${name}} can mean only one.`,
    hint: 'Give one of them another name.',
  });
}

export function noLoraOutput(
  span: Span,
  details: { readonly attribute: string; readonly output: string; readonly suffix: string; readonly definedAt: Span },
): Diagnostic {
  const { attribute, output, suffix, definedAt } = details;
  return error('no-lora-output', span, {
    message: `"${attribute}" needs a LoRA here, and "${output}" is ${suffix === '' ? 'not known to be one' : `a ${suffix} file`}.`,
    related: [{ message: 'It is an output of this block', span: definedAt }],
    hint: 'An output is a LoRA when its name ends in .safetensors.',
  });
}

export function noOutput(
  span: Span,
  details: {
    readonly run: string;
    /** Whether it is one in place of a run. */
    readonly isTraining: boolean;
    /** `undefined`: the run alone is named. */
    readonly output: string | undefined;
    readonly names: readonly string[];
    readonly meant: string | undefined;
  },
): Diagnostic {
  const { run, isTraining, output, names, meant } = details;
  const pictured = `It has ${run}.montage and ${run}.animation once it makes pictures: sample = { prompts = "prompts.txt" }`;
  return error('no-output', span, {
    message:
      output === undefined
        ? `"${run}" is a run, and which of its outputs is meant is not said.`
        : `The ${isTraining ? 'training' : 'run'} "${run}" has no output "${output}".`,
    hint: meant !== undefined ? `Write ${meant}` : names.length === 0 ? pictured : `It has ${enumerate(names)}.`,
    fix: meant === undefined ? undefined : replace(span, meant),
  });
}

export function oddName(span: Span, name: string): Diagnostic {
  return error('odd-name', span, {
    message: `"${name}" cannot be a name here.`,
    hint: 'Names have letters from a to z, digits and underscores, and begin with no digit.',
  });
}

export function outputOutside(span: Span, name: string, path: string): Diagnostic {
  return error('output-outside', span, {
    message: `The output "${name}" is "${path}", and outputs are written into a folder of their own.`,
    hint: 'Give it a plain name, such as "report.txt", and put it where you want it with a save block.',
  });
}

export function quotedPlaceholder(span: Span, name: string): Diagnostic {
  return error('quoted-placeholder', span, {
    message: `{${name}} stands where the shell would not take a path as one word.`,
    hint: `Paths are quoted already: write {${name}} without quotes around it, and outside of backticks, \${…}, ((…)) and <<. For more, call a script.`,
  });
}

export function sameOutput(span: Span, name: string): Diagnostic {
  return error('same-output', span, {
    message: `The output "${name}" would lie where another one does.`,
    hint: 'Give each a name of its own.',
  });
}

export function saveSuffix(
  span: Span,
  { path, from, suffix }: { readonly path: string; readonly from: string; readonly suffix: string },
): Diagnostic {
  const better = /\.\w{1,12}$/.test(path) ? path.replace(/\.\w+$/, suffix) : `${path}${suffix}`;
  return error('save-suffix', span, {
    message: `"${from}" is a ${suffix} file, and "${path}" is none.`,
    hint: `Write "${better}"`,
  });
}

export function undeclaredName(
  span: Span,
  name: string,
  meant: string | undefined,
  declared: readonly string[],
): Diagnostic {
  const known = `Inputs and outputs are ${enumerate(declared.map((one) => `{${one}}`))}.`;
  return error('undeclared-name', span, {
    message: `The command has {${name}}, and there is no input or output of that name.`,
    hint: meant === undefined ? `${known} Braces that are meant for the shell stand in quotes.` : `Write {${meant}}`,
  });
}

export function unusedName(span: Span, name: string, kind: 'input' | 'output'): Diagnostic {
  const what = kind === 'input' ? 'does not read it' : 'cannot know where to write it';
  return error('unused-name', span, {
    message: `The command does not name the ${kind} "${name}", and so ${what}.`,
    hint: `Write {${name}} in the command, in the place of the path, or leave the ${kind} out.`,
  });
}
