/** The teachers: a new one is a file of this room and a line of this list. */
import { offline } from './offline.js';
import { openai } from './openai.js';
import { recorded } from './recorded.js';
import { teacherRegistry } from './teacher.js';

export const TEACHERS = teacherRegistry([offline, openai, recorded]);
