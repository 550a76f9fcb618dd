// Small pictures of one colour, as PNG files.

import { crc32, deflateSync } from 'node:zlib';

/** Another `shade` makes another picture. `chunks` come before the pixels. */
export function pngOf(options: {
  readonly width: number;
  readonly height: number;
  readonly shade?: number;
  readonly depth?: 8 | 16;
  readonly chunks?: { readonly [type: string]: readonly number[] };
}): Buffer {
  const { width, height, shade = 0, depth = 8, chunks = {} } = options;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // Grey.
  header.set([depth, 0, 0, 0, 0], 8);
  // Each row begins with the number of its filter.
  const rows = Buffer.concat(
    Array.from({ length: height }, () => Buffer.concat([Buffer.of(0), Buffer.alloc((width * depth) / 8, shade % 256)])),
  );
  const mark = Buffer.from(`shade\0${shade}`, 'latin1');
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('tEXt', mark),
    ...Object.entries(chunks).map(([type, data]) => chunk(type, Buffer.from(data))),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}
