// Runs work that shows the newest state: asked often it runs seldom, but always once after the last asking.

export function soon(work: () => Promise<void>, onTrouble: (trouble: unknown) => void): () => void {
  let running = false;
  let again = false;
  return () => {
    again = true;
    if (running) return;
    running = true;
    void (async () => {
      while (again) {
        again = false;
        await work().catch(onTrouble);
      }
      running = false;
    })();
  };
}
