// docs/diagnostics.md: every diagnostic with its explanation and examples.

import { chapters, inStyle, meansOf, shortened } from '../explanations/explanations.ts';

export function explanationsText(): string {
  const parts = chapters.flatMap(({ title, explanations }) => [
    `## ${title}`,
    ...Object.entries(explanations)
      .toSorted(([one], [other]) => (one < other ? -1 : 1))
      .flatMap(([code, explanation]) => [
        `### ${code}`,
        meansOf(explanation),
        `\`\`\`lora\n${shortened(explanation.wrong)}\n\`\`\``,
        ...Object.entries(explanation.files ?? {})
          .slice(0, 3)
          .map(([path, text]) => `with this in ${path}:\n\n\`\`\`lora\n${text}\n\`\`\``),
        'Right is:',
        `\`\`\`lora\n${shortened(inStyle(explanation.right))}\n\`\`\``,
      ]),
  ]);
  return `${[...opening, ...parts].join('\n\n')}\n`;
}

const opening = [
  '# What lorac says about a program',
  `Printed from \`src/parser/explanations\`; \`lorac explain CODE\` shows the same in the terminal, with what is said about
the example. Examples leave out the blocks "pony" (a checkpoint), "hero" (a dataset), "raw" (a training) and "style" (a
LoRA file) where it does not matter what is in them.`,
];
