/**
 * What an application may import as `acecoder-temporal/contract`: what it checks before it starts a run, what it sends
 * and is told, and the rows that it brings or reads. Everything here is pure. The rest of the contract is inside.
 */
export { ArtifactRef, Manifest } from './artifacts.js';
export { Experiment } from './experiment.js';
export { StageFailure } from './failure.js';
export { ForkInput } from './fork.js';
export { checkInput, refusalText } from './inputs.js';
export { type Mistake } from './mistakes.js';
export { FAILURES, SEARCH_ATTRIBUTES } from './names.js';
export { PRESETS } from './preset-list.js';
export { expandPreset } from './presets.js';
export { queueName, QUEUES } from './queues.js';
export {
  FilteredQuestionRow,
  PairRow,
  ProgramRow,
  QuestionRow,
  ReplyRow,
  SampleRow,
  SeedRow,
  TaskRow,
  TestsRow,
} from './rows.js';
export { STAGES } from './stages/index.js';
export { Abandon, MESSAGES, RetryStage, type ExperimentStatus, type StageResult } from './status.js';
export { Summary } from './summary.js';
