// Adds up what the test runners say in their logs and prints one line: `N passed, N failed`.
// Arguments: how many sections ran, how many of them failed, and the logs. Fails when a log has no result:
// tests that were not run have not passed.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const [ran, broken, ...logs] = process.argv.slice(2);
const plain = (text) => text.replace(/\u001b\[[0-9;]*m/g, '');
const number = (text) => Number(text ?? 0);

/** What each runner prints at its end; all matches of a log are added. */
const runners = [
  // cargo nextest
  {
    of: /^\s*Summary \[.*?\].*$/gm,
    passed: (line) => /(\d+) passed/.exec(line)?.[1],
    failed: (line) => number(/(\d+) failed/.exec(line)?.[1]) + number(/(\d+) timed out/.exec(line)?.[1]),
  },
  // cargo test
  {
    of: /^test result: .*$/gm,
    passed: (line) => /(\d+) passed/.exec(line)?.[1],
    failed: (line) => /(\d+) failed/.exec(line)?.[1],
  },
  // vitest
  {
    of: /^\s*Tests\s+.*\(\d+\)$/gm,
    passed: (line) => /(\d+) passed/.exec(line)?.[1],
    failed: (line) => /(\d+) failed/.exec(line)?.[1],
  },
  // node --test
  {
    of: /^(?:#|ℹ) (?:pass|fail) \d+$/gm,
    passed: (line) => /pass (\d+)/.exec(line)?.[1],
    failed: (line) => /fail (\d+)/.exec(line)?.[1],
  },
  // playwright, and scripts that say `N passed, N failed`
  {
    of: /^\s*(?:\d+ passed(?:,? .*)?|\d+ failed)$/gm,
    passed: (line) => /(\d+) passed/.exec(line)?.[1],
    failed: (line) => /(\d+) failed/.exec(line)?.[1],
  },
];

let passed = Number(ran) - Number(broken);
let failed = Number(broken);
let silent = 0;
for (const log of logs) {
  let text = '';
  try {
    text = plain(readFileSync(log, 'utf8'));
  } catch {
    // Its section did not run.
  }
  let [ok, bad, results] = [0, 0, 0];
  for (const runner of runners) {
    for (const [line] of text.matchAll(runner.of)) {
      ok += number(runner.passed(line));
      bad += number(runner.failed(line));
      results += 1;
    }
  }
  const name = basename(log, '.log');
  if (results === 0 || ok + bad === 0) {
    silent += 1;
    console.log(`${name}: no tests were run`);
  } else {
    console.log(`${name}: ${ok} passed, ${bad} failed`);
  }
  passed += ok;
  failed += bad;
}
console.log(`sections: ${Number(ran) - Number(broken)} passed, ${broken} failed`);
console.log(`${passed} passed, ${failed + silent} failed`);
process.exit(failed + silent > 0 ? 1 : 0);
