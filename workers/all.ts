import { main } from './run-workers.js';

main(['pipeline', 'llm', 'sandbox', 'gpu']);
