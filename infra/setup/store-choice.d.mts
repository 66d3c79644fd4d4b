export type StoreName = 'minio' | 'seaweedfs' | 'versitygw';
export function listed(names: readonly string[], word: string): string;
export function storeFolder(home: string, store: StoreName): string;
export function rememberedStore(home: string): StoreName | undefined;
export function chooseStore(home: string, asked: StoreName | undefined, byDefault: () => StoreName): StoreName;
export function checkStore(value: string | undefined): StoreName | undefined;
