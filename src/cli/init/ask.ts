// Questions in the terminal: one line each, with an answer that Enter takes.

import { createInterface, type Interface } from 'node:readline/promises';

/** Ctrl-C or Ctrl-D in place of an answer. */
export class NoAnswer extends Error {}

export interface Terminal {
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream;
}

export interface Questions extends Disposable {
  /** Gives the answer, or `usual` when there is none. */
  text(question: string, usual: string): Promise<string>;
  /** Gives the place of the choice in the list. */
  choice(question: string, choices: readonly string[]): Promise<number>;
  yes(question: string): Promise<boolean>;
}

export function openQuestions({ input, output }: Terminal): Questions {
  const lines = createInterface({ input, output });
  const say = (text: string) => output.write(`${text}\n`);
  return {
    async text(question, usual) {
      const answer = (await ask(lines, `${question} [${usual}] `)).trim();
      return answer === '' ? usual : answer;
    },
    async choice(question, choices) {
      say(question);
      for (const [at, choice] of choices.entries()) say(`  ${at + 1}  ${choice}`);
      for (;;) {
        const answer = (await ask(lines, `a number from 1 to ${choices.length} [1] `)).trim();
        const number = answer === '' ? 1 : Number(answer);
        if (Number.isInteger(number) && number >= 1 && number <= choices.length) return number - 1;
        say(`There is no ${answer}.`);
      }
    },
    async yes(question) {
      return /^y(es)?$/i.test((await ask(lines, `${question} [y/N] `)).trim());
    },
    [Symbol.dispose]() {
      lines.close();
    },
  };
}

/** The end of the input is no answer, and Ctrl-C is none either. */
function ask(lines: Interface, question: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const give = () => reject(new NoAnswer());
    lines.once('close', give);
    lines.once('SIGINT', give);
    lines.question(question).then((answer) => {
      lines.off('close', give);
      lines.off('SIGINT', give);
      resolve(answer);
    }, give);
  });
}
