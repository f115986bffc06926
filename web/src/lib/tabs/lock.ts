// One tab at a time. Web Locks where there are any; they are missing on pages that were not loaded over
// https, and there a lease in IndexedDB does the same, as its transactions run one after another.

import { Dexie, type Table } from 'dexie';
import { randomId } from '../api/ids';

const LEASE_MS = 10_000;
const RETRY_MS = 150;

/** Runs `work` while no other tab of this origin runs work under the same name. */
export async function alone<T>(name: string, work: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks) return await locks.request(`tertulia.${name}`, work);
  return await leased(name, work);
}

interface Lease {
  name: string;
  owner: string;
  until: number;
}

class Leases extends Dexie {
  declare leases: Table<Lease, string>;

  constructor() {
    super('tertulia-leases');
    this.version(1).stores({ leases: 'name' });
  }

  /** Takes the lease or makes it longer; false when it is another's. */
  take(name: string, owner: string): Promise<boolean> {
    return this.transaction('rw', this.leases, async () => {
      const held = await this.leases.get(name);
      const now = Date.now();
      if (held && held.owner !== owner && held.until > now) return false;
      await this.leases.put({ name, owner, until: now + LEASE_MS });
      return true;
    });
  }

  give(name: string, owner: string): Promise<void> {
    return this.transaction('rw', this.leases, async () => {
      const held = await this.leases.get(name);
      if (held?.owner === owner) await this.leases.delete(name);
    });
  }
}

let leases: Leases | undefined;

async function leased<T>(name: string, work: () => Promise<T>): Promise<T> {
  const db = (leases ??= new Leases());
  const owner = randomId();
  while (!(await db.take(name, owner))) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS * (0.5 + Math.random())));
  }
  const longer = setInterval(() => void db.take(name, owner), LEASE_MS / 3);
  try {
    return await work();
  } finally {
    clearInterval(longer);
    await db.give(name, owner);
  }
}
