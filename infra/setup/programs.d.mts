export function findMinio(): string | undefined;
export function findGo(): { path: string; reason?: undefined } | { reason: string };
export function goOptions(): { cwd: string; env: NodeJS.ProcessEnv };
export function goPrograms(name: 'versitygw' | 'temporal' | 'prometheus'): {
  isBuilt: boolean;
  folder: string;
  packages: string[];
};
