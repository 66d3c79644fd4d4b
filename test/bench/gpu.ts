/** `npm run bench:gpu`: throughput and memory of the runtime's operations on the CUDA device of this host. */
import { parseArgs } from 'node:util';
import { pythonMeasures } from './python.js';
import { report } from './table.js';

const HELP = `npm run bench:gpu -- [options]

  --size NAME  a model by billions of parameters: 0.14, 0.5, 1.5 (all; may be given several times); micro needs no GPU
  --json       one JSON object on the last line
  --help       print this`;

const { values } = parseArgs({
  options: {
    size: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) console.log(HELP);
else report('gpu', pythonMeasures('throughput', values.size ? ['--sizes', ...values.size] : []), values.json);
