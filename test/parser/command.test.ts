// Where the placeholders of a command stand, and where a path cannot.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { placeholdersIn, splitCommand } from '../../src/parser/command.ts';

/** `+a` for a place where a path can stand, `-a` for another. */
const found = (command: string) => placeholdersIn(command).map(({ name, isWord }) => `${isWord ? '+' : '-'}${name}`);

test.each([
  ['python x.py {a} > {b}', ['+a', '+b']],
  ['x --in={a} {a}.bak', ['+a', '+a']],
  ['x "{a}" {b}', ['-a', '+b']],
  ["awk '{print}' {a}", ['-print', '+a']],
  ["x $'it\\'s {a}' {b}", ['-a', '+b']],
  ['x \\{a} "\\"" {b}', ['+b']],
  ['x ${HOME}/x {a}', ['+a']],
  ['x "${HOME}/x" {a}', ['+a']],
  ['x ${A:-{a}}', ['-a']],
  ['x `cat {a}`', ['-a']],
  ['x $(cat {a}) {b}', ['+a', '+b']],
  ['x "$(cat {a})" {b}', ['+a', '+b']],
  ['x "$(case a in a) echo "b {a}";; esac)"', ['-a']],
  ['(cat {a}); {b}', ['+a', '+b']],
  ['diff <(sort {a}) {b}', ['+a', '+b']],
  ['cat <<E\n{a}\nE', ['-a']],
  ['(( x = {a} ))', ['-a']],
  ['echo $(( {a} ))', ['-a']],
  ['echo $[ {a} ]', ['-a']],
  ['# "\ncat "{a}"', ['-a']],
  ["cat {a} # it's\ncat {b}", ['+a', '+b']],
  ['cat x#{a}', ['+a']],
  ['{ cat; } {a,b} {1} {a-b} {}', []],
])('%j has %j', (command, wanted) => {
  expect(found(command)).toEqual(wanted);
});

test('a command is cut at the paths alone, and nothing of it is lost', () => {
  expect(splitCommand(`awk '{print}' {a} > {b}`)).toEqual({
    pieces: ["awk '{print}' ", ' > ', ''],
    names: ['a', 'b'],
  });
  fc.assert(
    fc.property(fc.array(fc.constantFrom('{a}', '{b}', '"', "'", '$(', ')', ' ', '#', '\n', '\\', 'x')), (parts) => {
      const command = parts.join('');
      const { pieces, names } = splitCommand(command);
      expect(pieces.map((piece, index) => piece + (names[index] ? `{${names[index]}}` : '')).join('')).toBe(command);
    }),
  );
});
