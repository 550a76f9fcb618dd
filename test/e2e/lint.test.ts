// The linter with the real worker: what only pixels tell, and what a build says before it trains.

import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { expect, test } from 'vitest';
import { Project } from './project.ts';

test('copies of a picture are found by their bytes, and by their pixels where those differ', async () => {
  await using project = await Project.open();
  const first = readdirSync(project.path('images'))
    .sort()
    .find((name) => name.endsWith('.png')) as string;
  const bytes = await project.bytes(`images/${first}`);
  await writeFile(project.path('images', 'same.png'), bytes);
  await writeFile(project.path('images', 'alike.png'), withComment(bytes));
  for (const name of ['same', 'alike']) await writeFile(project.path('images', `${name}.txt`), 'a copy');

  const [exact, alike] = [
    { code: 'duplicate', files: [first, 'same.png'].sort() },
    { code: 'near-duplicate', files: ['alike.png', [first, 'same.png'].sort()[0] as string].sort() },
  ].map(({ code, files }) =>
    expect.objectContaining({ code, files: files.map((name) => project.path('images', name)) }),
  );
  const { exitCode, stdout } = await project.lorac(['lint', '--json']);
  expect(exitCode).toBe(0);
  const [{ findings, images, lookedAt }] = JSON.parse(stdout).datasets;
  expect(lookedAt).toBe(images);
  expect(findings).toContainEqual(exact);
  expect(findings).toContainEqual(alike);

  // It knows by now, and a build before it trains says so, with no Python.
  const again = await project.lorac(['lint', '--json'], { LORAC_PYTHON: '/nonexistent/python' });
  expect(JSON.parse(again.stdout)).toEqual(JSON.parse(stdout));
  await project.edit('hero.lora', (text) => text.replace('steps = 6', 'steps = 1').replace(/^ {2}sample = .*\n/m, ''));
  const { events, finished } = await project.build();
  expect(finished).toMatchObject({ ok: true });
  const told = events.findIndex(({ type, message }) => type === 'message' && /look alike/.test(message));
  const begun = events.findIndex(({ type, node }) => type === 'node-started' && node === 'raw:latents');
  expect(told).toBeGreaterThan(0);
  expect(told).toBeLessThan(begun);
  expect((await project.build()).events.filter(({ type }) => type === 'message')).toEqual([]);
});

/** The same picture with one more text chunk before its end. */
function withComment(png: Buffer): Buffer {
  const body = Buffer.from('tEXtComment\0one more time', 'latin1');
  const chunk = Buffer.alloc(8 + body.length);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), 4 + body.length);
  return Buffer.concat([png.subarray(0, -12), chunk, png.subarray(-12)]);
}
