// A real server of our own for one test: its own folder, a free port, killed and started again at will.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** The binary: TERTULIA_BIN, or the newest profile that was built. */
export function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(homedir(), '.cache/tertulia/target');
  const places = [
    process.env.TERTULIA_BIN,
    path.join(target, 'debug/tertulia'),
    path.join(target, 'release/tertulia'),
  ];
  const found = places.find((place) => place && existsSync(place));
  if (!found) throw new Error(`no server: build it with "make build" (looked at ${places.filter(Boolean).join(', ')})`);
  return found;
}

export class Server {
  #child;
  #listen = '127.0.0.1:0';

  static async start() {
    const server = new Server();
    server.folder = await mkdtemp(path.join(tmpdir(), 'tertulia-e2e-'));
    await server.up();
    return server;
  }

  /** Starts the process; after the first time on the same port. */
  async up() {
    const settings = ['identity.argon2_memory_kib=8192', 'identity.argon2_passes=1', 'limits.enabled=false'];
    const args = ['serve', '--data', path.join(this.folder, 'data'), '--listen', this.#listen];
    for (const setting of settings) args.push('--set', setting);
    // The server refuses settings that it does not know, and TERTULIA_BIN is ours.
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('TERTULIA_')));
    this.#child = spawn(binary(), args, { stdio: ['ignore', 'pipe', 'inherit'], env });
    const lines = createInterface({ input: this.#child.stdout });
    for await (const line of lines) {
      const ready = /^Tertulia is ready at (http:\/\/(\S+))/.exec(line);
      if (!ready) continue;
      [, this.url, this.#listen] = ready;
      return;
    }
    throw new Error('the server ended before it was ready');
  }

  /** Ends the process as a power cut would, and waits until it is gone. */
  async kill() {
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await gone;
  }

  async end() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}
