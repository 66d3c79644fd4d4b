/**
 * Where recorded histories stand: those of the coming release in `next`, those of a release in a folder of its name. A
 * release's histories stay as they are, because runs of it may still be open. Code that would change what they replay
 * goes behind `patched`.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

export const HISTORIES = fileURLToPath(new URL('./histories/', import.meta.url));
export const NEXT = fileURLToPath(new URL('./histories/next/', import.meta.url));

/** The text of a recorded history, by its name below {@link HISTORIES}. */
export const historyText = (name: string): string => gunzipSync(readFileSync(`${HISTORIES}${name}`)).toString('utf8');
