/** How the report writes numbers, times, sizes and keys. Pure. */

/** A short text of a number: whole numbers in full, others with three significant digits. */
export function numberText(value: number): string {
  if (Number.isInteger(value)) return grouped(value);
  const magnitude = Math.abs(value);
  return magnitude >= 0.001 && magnitude < 1e6 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

/** Digits in groups of three from 10,000 on. */
function grouped(value: number): string {
  return Math.abs(value) < 10_000 ? String(value) : String(value).replaceAll(/\B(?=(\d{3})+$)/g, ',');
}

export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${numberText(bytes / 1000 ** power)} ${units[power]}`;
}

export function durationText(seconds: number): string {
  if (seconds < 60) return `${numberText(Math.round(seconds * 10) / 10)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${grouped(hours)} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

export const percent = (rate: number): string => `${(100 * rate).toFixed(1)} %`;
export const percentRange = ([low, high]: readonly [number, number]): string =>
  `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)} %`;
export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${numberText(count)} ${count === 1 ? one : many}`;

/** A date and time to the minute, in UTC, out of an ISO text. */
export const dateText = (iso: string): string => `${iso.slice(0, 16).replace('T', ' ')} UTC`;

/**
 * What of an artifact's key a reader can compare by eye; the whole key stands in the list of artifacts.
 *
 * @example
 * shortKey('artifacts/policy/0123456789abcdef….json'); // policy 01234567
 */
export function shortKey(key: string): string {
  const [, kind, name] = /^artifacts\/([^/]+)\/([^/]+)\.json$/.exec(key) ?? [];
  return kind === undefined || name === undefined ? key : `${kind} ${name.slice(0, 8)}`;
}
