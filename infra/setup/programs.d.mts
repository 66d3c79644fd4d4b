export function findMinio(): string | undefined;
export function findGo(): { path: string; reason?: undefined } | { reason: string };
export function goPrograms(name: 'versitygw' | 'temporal'): { isBuilt: boolean };
