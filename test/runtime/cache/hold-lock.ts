// Run as a program of its own: takes a lock of the store that is named, says so, and keeps it until it is killed.

import { parseFingerprint } from '../../../src/runtime/cache/fingerprint.ts';
import { Store } from '../../../src/runtime/cache/store.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';

const [, , folder, name] = process.argv;
const fingerprint = parseFingerprint(name);
if (folder === undefined || fingerprint === undefined) throw new Error('A store and a fingerprint are needed.');
await new Store(absolutePath(folder)).lock(fingerprint);
process.stdout.write('held');
setInterval(() => {}, 1000);
