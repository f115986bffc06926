// Whether anybody uses this client: it is in sight, and something is pressed or moved now and then.

/** So long without a touch, and nobody is there. */
export const STILL_MS = 5 * 60_000;
/** So long out of sight, and nobody is there. */
export const HIDDEN_MS = 60_000;

const SIGNS = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart'] as const;

/** The part of a document that is used. */
export type Page = Pick<EventTarget, 'addEventListener' | 'removeEventListener'> & { readonly visibilityState: string };

/** Tells when it changes; gives what ends it. */
export function watchRest(page: Page, tell: (idle: boolean) => void): () => void {
  let idle = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let movedAt = Date.now();

  const wait = () => {
    clearTimeout(timer);
    const visible = page.visibilityState === 'visible';
    const left = visible ? STILL_MS - (Date.now() - movedAt) : HIDDEN_MS;
    timer = setTimeout(() => {
      // A hand that moves is not followed by a timer each time; it is looked at when the time is over.
      if (page.visibilityState === 'visible' && Date.now() - movedAt < STILL_MS) return wait();
      set(true);
    }, left);
  };
  const set = (now: boolean) => {
    if (idle !== now) tell((idle = now));
  };
  const moved = () => {
    movedAt = Date.now();
    if (idle && page.visibilityState === 'visible') {
      set(false);
      wait();
    }
  };
  const turned = () => {
    movedAt = Date.now();
    if (page.visibilityState === 'visible') set(false);
    wait();
  };

  for (const sign of SIGNS) page.addEventListener(sign, moved, { passive: true });
  page.addEventListener('visibilitychange', turned);
  wait();
  return () => {
    clearTimeout(timer);
    for (const sign of SIGNS) page.removeEventListener(sign, moved);
    page.removeEventListener('visibilitychange', turned);
  };
}
