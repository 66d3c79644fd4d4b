/** The sources of programs: a new one is a file of this room and a line of this list. */
import { openai } from './openai.js';
import { recorded } from './recorded.js';
import { sourceRegistry } from './source.js';

export const SOURCES = sourceRegistry([openai, recorded]);
