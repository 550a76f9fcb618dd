// node report.mjs LORA: the title that the environment has, then a line for each module of a LoRA, with its rank.

import { openSync, readSync } from 'node:fs';

const [path] = process.argv.slice(2);
const file = openSync(path);
const length = Buffer.alloc(8);
readSync(file, length, 0, 8, 0);
const header = Buffer.alloc(Number(length.readBigUInt64LE()));
readSync(file, header, 0, header.length, 8);

console.log(process.env.TITLE);
for (const [name, { shape }] of Object.entries(JSON.parse(header.toString()))) {
  const module = /^(.*)\.lora_down\.weight$/.exec(name)?.[1];
  if (module !== undefined) console.log(`${module}: rank ${shape[0]}`);
}
