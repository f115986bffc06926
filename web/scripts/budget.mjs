// Fails the build when a visitor would load more script than promised.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const GZIP_BYTES_MAX = 180 * 1024;
const folder = new URL('../dist/assets/', import.meta.url);

let total = 0;
for (const name of readdirSync(folder).filter((n) => n.endsWith('.js'))) {
  total += gzipSync(readFileSync(new URL(name, folder)), { level: 9 }).length;
}
console.log(`script: ${(total / 1024).toFixed(1)} KiB of ${GZIP_BYTES_MAX / 1024} KiB, gzipped`);
if (total > GZIP_BYTES_MAX) {
  console.error('over the budget');
  process.exit(1);
}
