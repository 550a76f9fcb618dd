// Diagnostics as they are read.

import { expect, test } from 'vitest';
import { printDiagnostic, printDiagnostics } from '../../src/parser/diagnostics/print-diagnostic.ts';
import { compileText } from './marked.ts';

const print = (text: string) => printDiagnostics(compileText(text).diagnostics);

test('the line, the place in it, what explains it, and what to write', () => {
  const program = `checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero  learning_rate = 3e-4 }
resize thin { from = pony  thr = -3.5 }`;
  expect(print(program)).toMatchInlineSnapshot(`
    "test.lora:3:39 error: The train block "raw" has no attribute "learning_rate". [unknown-attribute]
      3 | train raw { base = pony  data = hero  learning_rate = 3e-4 }
        |                                       ^^^^^^^^^^^^^
        = hint: It is called unet_lr here.

    test.lora:4:22 error: "from" needs a LoRA here, and "pony" is a checkpoint. [wrong-kind]
      4 | resize thin { from = pony  thr = -3.5 }
        |                      ^^^^
      1 | checkpoint pony { path = "pony.safetensors" }
        |            ---- "pony" is defined here"
  `);
});

test('tabs, wide letters and letters that steer terminals keep the marks in place', () => {
  expect(print('dataset a {\n\timages = "漢字" \u001b[31m seed = 3\n}')).toMatchInlineSnapshot(`
    "test.lora:2:16 error: "·" means nothing here. [unexpected-character]
      2 |   images = "漢字" ·[31m seed = 3
        |                   ^

    test.lora:2:17 error: This "[" is not closed. [unclosed]
      2 |   images = "漢字" ·[31m seed = 3
        |                    ^
      3 | }
        | - It would have to be closed before this
        = hint: Add "]" where it ends.

    test.lora:2:17 error: "[" cannot stand here. [unexpected]
      2 |   images = "漢字" ·[31m seed = 3
        |                    ^
        = hint: An attribute is written name = value."
  `);
});

test('long lines are shown around the place', () => {
  const long = `checkpoint a { path = "${'x'.repeat(150)}" colour = "${'y'.repeat(150)}" }`;
  const lines = print(long).split('\n');
  expect(Math.max(...lines.slice(1).map((line) => line.length))).toBeLessThan(130);
  expect(lines[1]?.indexOf('colour')).toBe(lines[2]?.indexOf('^'));
});

test('a place at the very end has a mark as well', () => {
  expect(print('let a =')).toMatchInlineSnapshot(`
    "test.lora:1:7 error: "a" has no value. [missing-value]
      1 | let a =
        |       ^
        = hint: Write a = …"
  `);
});

test('colours are given from outside, and leave the text as it is', () => {
  const { diagnostics } = compileText('resize a { from = b }');
  const [first] = diagnostics;
  if (first === undefined) throw new Error('no diagnostic');
  const styled = printDiagnostic(first, (role, text) => `<${role}>${text}</${role}>`);
  expect(styled).toContain('<error>error:</error>');
  expect(styled).toContain('<mark>^</mark>');
  expect(styled.replaceAll(/<\/?\w+>/g, '')).toBe(printDiagnostic(first));
});
