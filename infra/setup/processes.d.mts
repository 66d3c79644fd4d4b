export interface ProcessIdentity {
  pid: number;
  startTime: string;
}
export function identify(pid: number): ProcessIdentity | undefined;
export function isAlive(identity: ProcessIdentity): boolean;
export function stopProcess(identity: ProcessIdentity, graceMs?: number): Promise<void>;
export function readJson(path: string): unknown;
export function writeWhole(path: string, text: string, mode?: number): void;
export function onEndSignal(handle: (signal: NodeJS.Signals) => void): () => void;
export function withoutTemporal(env?: NodeJS.ProcessEnv): Record<string, string | undefined>;
export function withLock<T>(path: string, body: () => Promise<T>, onWait?: (pid: number) => void): Promise<T>;
export function findMarked(name: string, value: string): ProcessIdentity[];
export function endAll(find: () => ProcessIdentity[], graceMs: number): Promise<void>;
