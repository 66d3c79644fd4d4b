/** The signals that end a worker process. */
const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Calls `handle` for each signal that ends this process. @returns a function that gives the signals back to Node. */
export function onEndSignal(handle: (signal: NodeJS.Signals) => void): () => void {
  for (const signal of END_SIGNALS) process.on(signal, handle);
  return () => {
    for (const signal of END_SIGNALS) process.off(signal, handle);
  };
}
