// The report of a file, read as inspect reads it.

import { type LoraReport, reportLora } from '../../../src/runtime/inspect/report.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';

export async function reportOf(path: string): Promise<LoraReport> {
  await using file = await SafetensorsFile.open(path);
  return reportLora(file);
}
