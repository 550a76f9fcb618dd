// A shelf of headers that someone could hand over: each wrong one is refused with its reason and the file's name,
// each odd but harmless one is read.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SafetensorsError } from '../../../src/runtime/safetensors/error.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { CHECKPOINT_LIMITS, LORA_LIMITS, parseHeader } from '../../../src/runtime/safetensors/header.ts';
import { fileBytes, openFolder, writeBytes } from './files.ts';

const entry = (begin: number, end: number, shape = `[${end - begin}]`, dtype = 'U8') =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ['an empty file', new Uint8Array(0), /it is empty/],
  ['seven bytes', new Uint8Array(7), /only 7 bytes/],
  ['a header of no bytes', fileBytes(''), /header is empty/],
  ['a length beyond the file', Buffer.concat([Buffer.from([200, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{}')]), /cut off/],
  ['a length beyond 2^53', Buffer.alloc(16, 0xff), /claims 18446744073709551615 bytes/],
  ['a header over the limit', Buffer.concat([Buffer.from([0, 0, 0, 8, 0, 0, 0, 0]), Buffer.from('{}')]), /at most/],
  ['text that is not JSON', fileBytes('{hello}'), /double quotes is missing/],
  ['a JSON array', fileBytes('[]'), /does not begin with "\{"/],
  ['a JSON string', fileBytes('"x"'), /does not begin with "\{"/],
  ['a header cut off inside', fileBytes('{"a":{"dtype":"U8"'), /"}" is missing/],
  ['invalid UTF-8', fileBytes(Buffer.from('7b22ff223a317d', 'hex')), /UTF-8/],
  ['an overlong UTF-8 form', fileBytes(Buffer.from('7b22c0af223a317d', 'hex')), /UTF-8/],
  ['half of a surrogate pair', fileBytes(`{"\\ud800":${entry(0, 1)}}`, 1), /surrogate/],
  ['an escape that does not exist', fileBytes(`{"\\q":${entry(0, 1)}}`, 1), /escape/],
  ['a raw line break in a name', fileBytes(`{"a\nb":${entry(0, 1)}}`, 1), /control character/],
  ['a byte order mark', fileBytes('\ufeff{}'), /does not begin/],
  ['a space before the object', fileBytes(' {}'), /does not begin/],
  ['NUL after the object', fileBytes('{}\0\0'), /follows its header/],
  ['a second object', fileBytes('{}{}'), /follows its header/],
  ['a comma before the end', fileBytes(`{"a":${entry(0, 1)},}`, 1), /double quotes is missing/],
  ['a string that does not end', fileBytes('{"a'), /does not end/],
  ['a gap before the first tensor', fileBytes(`{"a":${entry(1, 2)}}`, 2), /belong to no tensor/],
  ['a gap between tensors', fileBytes(`{"a":${entry(0, 1)},"b":${entry(2, 3)}}`, 3), /belong to no tensor/],
  ['an overlap', fileBytes(`{"a":${entry(0, 2)},"b":${entry(1, 3)}}`, 3), /overlaps/],
  ['two tensors in one place', fileBytes(`{"a":${entry(0, 2)},"b":${entry(0, 2)}}`, 2), /overlaps/],
  ['an end before the beginning', fileBytes(`{"a":${entry(2, 1, '[1]')}}`, 2), /before it begins/],
  ['bytes after the last tensor', fileBytes(`{"a":${entry(0, 1)}}`, 5), /4 bytes after its last tensor/],
  ['data cut off', fileBytes(`{"a":${entry(0, 8)}}`, 5), /cut off/],
  ['fewer bytes than the shape needs', fileBytes(`{"a":${entry(0, 4, '[5]')}}`, 4), /needs 5 bytes/],
  ['more bytes than the shape needs', fileBytes(`{"a":${entry(0, 4, '[1]', 'F16')}}`, 4), /needs 2 bytes/],
  ['an element count past 2^64', fileBytes(`{"a":${entry(0, 4, '[4294967296,4294967296,2]')}}`, 4), /counted/],
  ['a count that wraps to zero', fileBytes(`{"a":${entry(0, 0, '[9007199254740991,9007199254740991]')}}`), /counted/],
  ['half a byte', fileBytes(`{"a":${entry(0, 1, '[1]', 'F4')}}`, 1), /whole bytes/],
  ['six bits', fileBytes(`{"a":${entry(0, 1, '[1]', 'F6_E2M3')}}`, 1), /whole bytes/],
  ['a negative dimension', fileBytes(`{"a":${entry(0, 1, '[-1]')}}`, 1), /unsigned integer/],
  ['minus zero', fileBytes(`{"a":${entry(0, 0, '[-0]')}}`), /unsigned integer/],
  ['a dimension with a point', fileBytes(`{"a":${entry(0, 1, '[1.0]')}}`, 1), /unsigned integer/],
  ['a dimension with an exponent', fileBytes(`{"a":${entry(0, 4, '[4e0]')}}`, 4), /unsigned integer/],
  ['a leading zero', fileBytes(`{"a":${entry(0, 1, '[01]')}}`, 1), /unsigned integer/],
  [
    'an offset past 2^53',
    fileBytes('{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740992,9007199254740993]}}', 1),
    /2\^53/,
  ],
  ['a dimension that is a word', fileBytes(`{"a":${entry(0, 1, '["1"]')}}`, 1), /no shape/],
  ['a shape that is a number', fileBytes(`{"a":${entry(0, 1, '1')}}`, 1), /no shape/],
  ['a dtype in lower case', fileBytes(`{"a":${entry(0, 4, '[1]', 'f32')}}`, 4), /unknown dtype "f32"/],
  ['an unknown dtype', fileBytes(`{"a":${entry(0, 4, '[1]', 'Q4_K')}}`, 4), /unknown dtype/],
  ['a dtype that every object knows', fileBytes(`{"a":${entry(0, 4, '[1]', 'constructor')}}`, 4), /unknown dtype/],
  ['a dtype that is a number', fileBytes('{"a":{"dtype":3,"shape":[1],"data_offsets":[0,1]}}', 1), /no dtype/],
  ['no dtype', fileBytes('{"a":{"shape":[1],"data_offsets":[0,1]}}', 1), /no dtype/],
  ['no shape', fileBytes('{"a":{"dtype":"U8","data_offsets":[0,1]}}', 1), /no shape/],
  ['no offsets', fileBytes('{"a":{"dtype":"U8","shape":[1]}}', 1), /no data_offsets/],
  ['one offset', fileBytes('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}', 1), /no data_offsets/],
  ['three offsets', fileBytes('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}', 1), /no data_offsets/],
  [
    'an unknown field',
    fileBytes('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}', 1),
    /unknown field "x"/,
  ],
  [
    'a field given twice',
    fileBytes('{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1),
    /given twice/,
  ],
  ['a tensor given twice', fileBytes(`{"a":${entry(0, 1)},"a":${entry(0, 1)}}`, 1), /given twice/],
  ['a tensor given twice, once escaped', fileBytes(`{"a":${entry(0, 1)},"\\u0061":${entry(0, 1)}}`, 1), /given twice/],
  ['metadata given twice', fileBytes('{"__metadata__":{},"__metadata__":{}}'), /given twice/],
  ['a metadata key given twice', fileBytes('{"__metadata__":{"a":"1","a":"2"}}'), /given twice/],
  ['a metadata number', fileBytes('{"__metadata__":{"a":1}}'), /not a string/],
  ['a metadata object', fileBytes('{"__metadata__":{"a":{}}}'), /not a string/],
  ['a metadata null', fileBytes('{"__metadata__":{"a":null}}'), /not a string/],
  ['metadata that is a list', fileBytes('{"__metadata__":[]}'), /not an object/],
  ['a tensor named __metadata__', fileBytes(`{"__metadata__":${entry(0, 1)}}`, 1), /not a string/],
  ['a tensor that is a number', fileBytes('{"a":1}'), /not described/],
  ['a tensor that is null', fileBytes('{"a":null}'), /not described/],
  ['values nested without end', fileBytes(`{"a":${'['.repeat(200_000)}`), /nested too deeply/],
  ['too many dimensions', fileBytes(`{"a":${entry(0, 1, `[${Array(40).fill(1)}]`)}}`, 1), /40 dimensions/],
  ['a name longer than a page', fileBytes(`{"${'n'.repeat(5000)}":${entry(0, 1)}}`, 1), /longer than/],
  ['a zipped pickle', Buffer.from('PK\u0003\u0004\u0000\u0000\b\barchive/data.pkl'), /pickle/],
  ['a bare pickle', Buffer.from('\u0080\u0002\u008a\nl\u00fc\u009cF\u00f9 j', 'latin1'), /pickle/],
  ['GGUF', Buffer.from('GGUF\u0003\0\0\0\u0001\0\0\0'), /GGUF|claims/],
  ['a web page', Buffer.from('<!DOCTYPE html><html></html>'), /web page/],
  ['a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /LFS/],
];

test.each(refused)('%s is refused', async (_, bytes, reason) => {
  await using folder = await openFolder();
  const path = await writeBytes(folder.path('hostile.safetensors'), bytes);
  const opened = SafetensorsFile.open(path);
  await expect(opened).rejects.toThrow(SafetensorsError);
  await expect(opened).rejects.toThrow(reason);
  await expect(opened).rejects.toThrow(JSON.stringify(path));
});

const accepted: readonly (readonly [string, Uint8Array])[] = [
  ['no tensors', fileBytes('{}')],
  ['padding with spaces', fileBytes('{}      ')],
  ['null metadata', fileBytes('{"__metadata__":null}')],
  ['empty metadata', fileBytes('{"__metadata__":{}}')],
  ['a header length that is no multiple of eight', fileBytes(`{"a":${entry(0, 4, '[1]', 'F32')}}`, 4)],
  ['entries in another order than their bytes', fileBytes(`{"b":${entry(1, 2)},"a":${entry(0, 1)}}`, 2)],
  ['an empty name', fileBytes(`{"":${entry(0, 1)}}`, 1)],
  ['a name that every object knows', fileBytes(`{"__proto__":${entry(0, 1)}}`, 1)],
  ['NUL and other scripts in a name', fileBytes(`{"\\u0000 ключ 🦊":${entry(0, 1)}}`, 1)],
  ['a scalar', fileBytes(`{"a":${entry(0, 4, '[]', 'F32')}}`, 4)],
  [
    'tensors without elements',
    fileBytes(`{"a":${entry(0, 0, '[0,3]')},"b":${entry(0, 1)},"c":${entry(1, 1, '[0]')}}`, 1),
  ],
  ['packed elements that fill bytes', fileBytes(`{"a":${entry(0, 3, '[4]', 'F6_E3M2')}}`, 3)],
  ['spaces between the signs', fileBytes(`{ "a" : ${entry(0, 1)} }`, 1)],
];

test.each(accepted)('%s is read', async (_, bytes) => {
  await using folder = await openFolder();
  await using file = await SafetensorsFile.open(await writeBytes(folder.path('odd.safetensors'), bytes));
  expect(file.header.warnings).toEqual([]);
});

test('a header padded with line breaks is read with a warning', async () => {
  await using folder = await openFolder();
  await using file = await SafetensorsFile.open(await writeBytes(folder.path('odd.safetensors'), fileBytes('{}\n\t')));
  expect(file.header.warnings).toHaveLength(1);
});

test('a LoRA may not ask for as much as a checkpoint', async () => {
  await using folder = await openFolder();
  const path = await writeBytes(folder.path('long.safetensors'), fileBytes(`{"${'n'.repeat(600)}":${entry(0, 1)}}`, 1));
  await using file = await SafetensorsFile.open(path, CHECKPOINT_LIMITS);
  expect(file.header.tensors.size).toBe(1);
  await expect(SafetensorsFile.open(path, LORA_LIMITS)).rejects.toThrow('longer than 512 bytes');
});

test('a small file whose header length looks like a pickle is still read', async () => {
  await using folder = await openFolder();
  const header = '{}'.padEnd(0x0280);
  await using file = await SafetensorsFile.open(await writeBytes(folder.path('small.safetensors'), fileBytes(header)));
  expect(file.header.tensors.size).toBe(0);
});

test('a folder is refused by name', async () => {
  await using folder = await openFolder();
  await expect(SafetensorsFile.open(folder.path('.'))).rejects.toThrow('it is a folder');
});

test('whatever bytes are changed, a header is either refused or consistent', () => {
  const good = `{"__metadata__":{"k":"v"},"a":${entry(0, 4, '[2]', 'F16')},"b":${entry(4, 12, '[1,2]', 'F32')}}`;
  const change = fc.record({
    at: fc.nat(good.length - 1),
    remove: fc.nat(3),
    insert: fc.oneof(
      fc.string({ maxLength: 4 }),
      fc.constantFrom('"', '{', '}', '[', ']', ',', ':', '0', '9', '-', '.', 'e', '\\', 'null'),
    ),
  });
  const property = fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.nat(24), (changes, dataBytes) => {
    let text = good;
    for (const { at, remove, insert } of changes) text = text.slice(0, at) + insert + text.slice(at + remove);
    const bytes = Buffer.from(text);
    try {
      const header = parseHeader({ path: 'x', bytes, fileSize: 8 + bytes.length + dataBytes, limits: LORA_LIMITS });
      const sizes = [...header.tensors.values()].map((info) => info.end - info.begin);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(dataBytes);
      expect(JSON.parse(text)).toBeDefined();
    } catch (error) {
      expect(error).toBeInstanceOf(SafetensorsError);
    }
  });
  fc.assert(property, { numRuns: 3000 });
});
