export function makeShared(
  folder: string,
  isDone: () => boolean,
  make: (draft: string) => Promise<void>,
): Promise<void>;
