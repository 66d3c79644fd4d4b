/** What the page of a report is made of. */
import type { ArtifactRef, Frontier, StageName } from '../../workflows/contract/index.js';
import type { About } from './about.js';
import type { QuestionIndex, Tallies } from './questions.js';
import type { Facts } from './summarise.js';

/** Where the page's script finds the questions: in the page, or in files next to it. */
type EmbeddedQuestions =
  { index: QuestionIndex; texts: readonly string[] } | { indexFile: string; files: readonly string[] };

export interface ReportInput extends Facts {
  about: About;
  tallies: Tallies;
  questions: EmbeddedQuestions;
  /** Of a fork: what it reused, what it made again, and why. */
  fork?: Frontier;
  /** Of a page that is served while the experiment runs: what changes when there is something new. */
  live?: string;
}

/** The artifacts of the stages that have ended. */
export type StageArtifacts = Partial<Record<StageName, ArtifactRef>>;
