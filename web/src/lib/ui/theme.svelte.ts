// Light or dark: what the system says, unless the person chose.

export type Choice = 'auto' | 'light' | 'dark';

const KEY = 'tertulia.theme';

export class Theme {
  #choice = $state<Choice>('auto');
  #systemDark = $state(false);

  constructor() {
    const stored = localStorage.getItem(KEY);
    this.#choice = stored === 'light' || stored === 'dark' ? stored : 'auto';
    const system = matchMedia('(prefers-color-scheme: dark)');
    this.#systemDark = system.matches;
    system.addEventListener('change', () => (this.#systemDark = system.matches));
    this.#apply();
  }

  get choice(): Choice {
    return this.#choice;
  }

  get dark(): boolean {
    return this.#choice === 'auto' ? this.#systemDark : this.#choice === 'dark';
  }

  choose(choice: Choice): void {
    this.#choice = choice;
    if (choice === 'auto') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice);
    this.#apply();
  }

  toggle(): void {
    this.choose(this.dark ? 'light' : 'dark');
  }

  #apply(): void {
    if (this.#choice === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = this.#choice;
  }
}
