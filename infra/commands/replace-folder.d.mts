export function replaceFolder(from: string, to: string): void;
