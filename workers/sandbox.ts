import { main } from './run-workers.js';

main(['sandbox']);
