/** The first screen of a report: what was trained on what, how much better, how sure, at what cost, what is wrong. */
import { z } from 'zod';
import {
  figureName,
  POLICIES,
  STAGE,
  STAGES,
  TRAINED,
  type ArtifactRef,
  type Frontier,
} from '../../workflows/contract/index.js';
import { comparisons } from './compared.js';
import { facts, joined, sentences } from './elements.js';
import type { Figures } from './figures.js';
import { html, nothing, type Html, type HtmlValue } from './html.js';
import type { Answers, FilterName, PairedTasks } from './questions.js';
import type { ReportInput, StageArtifacts } from './report-input.js';
import { dateText, durationText, numberText, percent, plural } from './text.js';

/** Share from which something is said to look wrong and not only told. */
const MANY = 0.05;

export function firstScreen(input: ReportInput, figures: Figures, artifacts: StageArtifacts): Html {
  const { experiment, state } = input;
  return html`<header>
<h1><bdi>${experiment}</bdi> <span class="state">${state}</span></h1>
${lead(input, figures, artifacts)}
<div class="answers">
<div><h3>How much better?</h3>${howMuchBetter(input, figures, artifacts)}</div>
<div><h3>How sure?</h3>${howSure(input, figures, artifacts)}</div>
<div><h3>What did it cost?</h3>${whatItCost(input, figures, artifacts)}</div>
<div><h3>What looks wrong?</h3>${whatLooksWrong(input, figures, artifacts)}</div>
</div>
<h3>What was trained on what</h3>
${facts(aboutFacts(input, figures, artifacts))}
</header>`;
}

/** Metrics of a training that went on in another environment. */
const Resumed = z.object({ environments: z.array(z.unknown()).min(2) });

/** The stages that trained a policy in another way than by reinforcement learning. */
function trainedPolicies(artifacts: StageArtifacts): string[] {
  return TRAINED.filter(({ name }) => STAGE[name].kind === 'policy' && name !== 'reinforcement')
    .filter(({ name }) => artifacts[name] !== undefined)
    .map(({ name }) => name);
}

/** One paragraph: base model, training, questions. */
function lead({ metrics, rounds, about, tallies }: ReportInput, figures: Figures, artifacts: StageArtifacts): Html {
  const { synthesis, filtering, sampling, preferences, rewardModel } = metrics;
  const others = trainedPolicies(artifacts);
  const show = (id: string, value: number, artifact: ArtifactRef | undefined, text?: string) =>
    figures.show(id, value, artifact, text ?? numberText(value));
  const trained =
    rounds.length > 0
      ? html`<bdi>${about.baseModel}</bdi> was trained by ${show(
          'reinforcement.rounds',
          rounds.length,
          artifacts.reinforcement ?? rounds.at(-1)!.artifact,
        )} ${rounds.length === 1 ? 'round' : 'rounds'} of reinforcement learning`
      : others.length > 0
        ? html`<bdi>${about.baseModel}</bdi> was trained by ${others.join(' and ')}`
        : html`Nothing was trained${artifacts.evaluation ? '' : ' yet'}; the base model is
<bdi>${about.baseModel}</bdi>`;
  const onWhat = filtering
    ? html` on ${show('filtering.train', filtering.train, artifacts.filtering)} questions; ${show(
        'filtering.heldOut',
        filtering.heldOut,
        artifacts.filtering,
      )} others were held out`
    : nothing;
  const written = synthesis
    ? html` The questions and their tests were written by the teacher <bdi>${about.teacher}</bdi> from ${show(
        'synthesis.seeds',
        synthesis.seeds,
        artifacts.synthesis,
      )} seed programs (<bdi>${about.seeds}</bdi>).`
    : nothing;
  const judged = sampling
    ? html` ${show('sampling.programs', sampling.programs, artifacts.sampling)} programs were sampled and run${
        preferences
          ? html`, which gave ${show('preferences.pairs', preferences.pairs, artifacts.preferences)} preference pairs${
              rewardModel ? ' for the reward model' : ''
            }`
          : nothing
      }.`
    : nothing;
  return html`<p class="lead">${trained}${rounds.length > 0 ? onWhat : nothing}.${written}${judged}${
    tallies.questions > 0
      ? html` <a href="#questions">Every question with its tests and programs</a> is below.`
      : nothing
  }</p>`;
}

function howMuchBetter(
  { evaluation, comparisons: paired, tallies }: ReportInput,
  figures: Figures,
  artifacts: StageArtifacts,
): Html {
  if (evaluation.length === 0)
    return html`<p>Nothing was evaluated${artifacts.evaluation ? '' : ' yet'}, so no gain is claimed.</p>`;
  const statements = comparisons(evaluation, paired);
  return html`${
    statements.length === 0
      ? html`<p>Only one policy was evaluated on each benchmark, so there is nothing to compare.</p>`
      : sentences(statements)
  }${tallies.paired
    .filter(({ after }) => after === POLICIES.after)
    .map((tasks) => pairedSentence(tasks, figures, artifacts.evaluation))}`;
}

/** Which tasks turned, with buttons that show them. */
export function pairedSentence(
  { benchmark, before, after, gained, lost, both, neither }: PairedTasks,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  const show = (name: string, value: number) =>
    figures.show(figureName('evaluation', benchmark, after, name), value, artifact);
  const button = (filter: FilterName, value: number): Html =>
    after === POLICIES.after && value > 0 ? filterButton(filter, 'show them') : nothing;
  return html`<p>Task by task on <bdi>${benchmark}</bdi>, greedy: ${show('gained', gained)} of ${
    gained + lost + both + neither
  } are solved by <bdi>${after}</bdi> alone${button('gained', gained)}, ${show('lost', lost)} by
<bdi>${before}</bdi> alone${button('lost', lost)}, ${show('both', both)} by both, ${show('neither', neither)} by
neither.</p>`;
}

/** A button that the script of the page makes visible. */
export function filterButton(filter: FilterName, text: string): Html {
  return html` <button type="button" class="link" data-filter="${filter}" hidden>${text}</button>`;
}

function howSure({ evaluation, metrics, recipe }: ReportInput, figures: Figures, artifacts: StageArtifacts): Html {
  const seed = recipe.find(({ stage, setting }) => stage === 'reinforcement' && setting === 'seed');
  const { rewardModel } = metrics;
  const items: HtmlValue[] = [
    ...[...new Set(evaluation.map(({ benchmark }) => benchmark))].flatMap((name): HtmlValue[] => {
      const measured = evaluation.flatMap(({ benchmark, greedyInterval, tasks }) =>
        benchmark === name && greedyInterval ? [{ tasks, width: greedyInterval[1] - greedyInterval[0] }] : [],
      );
      if (measured.length === 0) return [];
      const points = (width: number): string => numberText(Math.round(1000 * width) / 10);
      const widths = measured.map(({ width }) => width);
      return [
        html`On <bdi>${name}</bdi>, ${plural(measured[0]!.tasks, 'task')}: the 95 % intervals are
${[...new Set([points(Math.min(...widths)), points(Math.max(...widths))])].join(' to ')} points wide.`,
      ];
    }),
    ...(rewardModel?.heldOutAccuracy === null || rewardModel === undefined
      ? []
      : [
          html`Reward model: right on ${figures.show(
            'rewardModel.heldOutAccuracy',
            rewardModel.heldOutAccuracy,
            artifacts.rewardModel,
            percent(rewardModel.heldOutAccuracy),
          )} of ${plural(rewardModel.heldOutPairs, 'held-out pair')} from ${plural(
            rewardModel.heldOutQuestions,
            'question',
          )}.`,
        ]),
    ...(evaluation.length > 0
      ? [
          html`This is one run${
            seed
              ? html` with seed
${figures.show(figureName('recipe', 'reinforcement', 'seed'), seed.value, seed.artifact)}`
              : nothing
          }:
the spread between runs with other seeds is not measured here.`,
        ]
      : []),
  ];
  return items.length === 0 ? html`<p>There is no measurement yet.</p>` : sentences(items);
}

function whatItCost({ stages, about, cost }: ReportInput, figures: Figures, artifacts: StageArtifacts): Html {
  const seconds = stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const reused = stages.filter((stage) => stage.reused).map(({ name }) => name);
  const device = about.deviceSeconds.reduce((sum, each) => sum + each.seconds, 0);
  return sentences([
    html`Time: ${durationText(seconds)} of stages${
      reused.length > 0 ? html` (reused, so nearly free: ${reused.join(', ')})` : nothing
    }.`,
    about.deviceSeconds.length === 0
      ? 'Device time: not recorded.'
      : html`Device time: ${durationText(device)} (${joined(
          about.deviceSeconds.map(
            ({ stage, seconds: own }) =>
              html`${stage} ${figures.show(
                figureName(stage, 'deviceSeconds'),
                own,
                artifacts[stage],
                durationText(own),
              )}`,
          ),
          ', ',
        )}) on <bdi>${about.devices.join('; ') || 'a device that was not recorded'}</bdi>.`,
    about.tokens.length === 0
      ? 'Tokens: not recorded.'
      : html`Tokens: ${joined(
          about.tokens.map(({ id, what, tokens, artifact }) => html`${figures.show(id, tokens, artifact)} ${what}`),
          ', ',
        )}.`,
    html`Money: ${cost.amount.toFixed(cost.amount > 0 && cost.amount < 1 ? 4 : 2)} ${cost.currency} for replies of
language models (teacher: <bdi>${cost.teacher}</bdi>); the price of machines is not known here.`,
  ]);
}

/** One thing that a reader should know before believing a number. */
interface Warning {
  bad: boolean;
  text: HtmlValue;
}

function whatLooksWrong(input: ReportInput, figures: Figures, artifacts: StageArtifacts): Html {
  const warnings = warningsOf(input, figures, artifacts).sort((a, b) => Number(b.bad) - Number(a.bad));
  if (warnings.length === 0) return html`<p>Nothing of what this page looks for.</p>`;
  return html`<ul class="plain">${warnings.map(
    ({
      bad,
      text,
    }) => html`<li${bad ? html` class="failed"` : nothing}>${bad ? html`<strong>!</strong> ` : nothing}${text}</li>
`,
  )}</ul>`;
}

function warningsOf(input: ReportInput, figures: Figures, artifacts: StageArtifacts): Warning[] {
  const { metrics, tallies, assertions, state, stages } = input;
  const { synthesis, filtering, preferences, rewardModel } = metrics;
  const share = (id: string, part: number, whole: number, artifact: ArtifactRef | undefined): Html =>
    html`${figures.show(id, part / whole, artifact, percent(part / whole))} (${numberText(part)} of
${numberText(whole)})`;
  const answered: { name: string; who: HtmlValue; answers: Answers; artifact: ArtifactRef | undefined }[] = [
    ...(tallies.sampling
      ? [{ name: 'sampling', who: 'the sampled programs', answers: tallies.sampling, artifact: artifacts.sampling }]
      : []),
    ...tallies.evaluation.map(({ benchmark, policy, answers }) => ({
      name: figureName('evaluation', benchmark, policy),
      who: html`the answers of <bdi>${policy}</bdi> on <bdi>${benchmark}</bdi>`,
      answers,
      artifact: artifacts.evaluation,
    })),
  ];
  const failed = assertions.filter(({ ok }) => !ok);
  const parked = stages.filter((stage) => stage.state === 'parked' || stage.state === 'failed');
  const writtenTests = filtering?.testCases ?? 0;
  return [
    ...(state === 'done' ? [] : [{ bad: false, text: `The experiment is ${state}, so this page is not the whole.` }]),
    ...parked.map(({ name, state: how, failure }) => ({
      bad: true,
      text: html`The stage ${name} is ${how}${failure === undefined ? '' : html`: <bdi>${failure}</bdi>`}.`,
    })),
    ...failed.map(({ text }) => ({ bad: true, text: html`This does not hold: ${text}.` })),
    ...cutAnswers(input, share, artifacts),
    ...answered
      .filter(({ answers }) => answers.unjudged > 0)
      .map(({ name, who, answers: { unjudged, tests }, artifact }) => ({
        bad: unjudged / tests > MANY / 5,
        text: html`${share(`${name}.unjudged`, unjudged, tests, artifact)} of the verdicts on ${who} are missing: the
host could not judge.`,
      })),
    ...(filtering && writtenTests > 0
      ? [
          {
            bad: false,
            text: html`The oracle dropped ${share(
              'filtering.droppedShare',
              Object.values(filtering.droppedTestCases).reduce((sum, count) => sum + count, 0),
              writtenTests,
              artifacts.filtering,
            )} of the tests.${filterButton('testsDropped', 'show them')}`,
          },
        ]
      : []),
    ...(filtering?.weakTestCases
      ? [
          {
            bad: filtering.weakTestCases / filtering.keptTestCases > MANY,
            text: html`${share(
              'filtering.weakTestCases',
              filtering.weakTestCases,
              filtering.keptTestCases,
              artifacts.filtering,
            )} of the kept tests are weak: nearly every program passes them.`,
          },
        ]
      : []),
    ...(synthesis && synthesis.contaminated.length > 0
      ? [
          {
            bad: false,
            text: html`${figures.show('synthesis.contaminated', synthesis.contaminated.length, artifacts.synthesis)} ${
              synthesis.contaminated.length === 1
                ? 'seed repeats a benchmark and was'
                : 'seeds repeat a benchmark and were'
            } left out.`,
          },
        ]
      : []),
    ...(tallies.found.rewardModelWrong > 0
      ? [
          {
            bad: false,
            text: html`For ${plural(tallies.found.rewardModelWrong, 'question')} the reward model prefers a wrong
program though a right one was there.${filterButton('rewardModelWrong', 'show them')}`,
          },
        ]
      : []),
    ...(preferences && preferences.pairs > 0 && preferences.heldOutPairs === 0
      ? [{ bad: true, text: 'No pair is held out, so the reward model is not measured.' }]
      : []),
    ...(rewardModel && rewardModel.tooLong > 0
      ? [
          {
            bad: false,
            text: html`${figures.show('rewardModel.tooLong', rewardModel.tooLong, artifacts.rewardModel)} of the pairs
were left out, because they are too long for the reward model.`,
          },
        ]
      : []),
    ...STAGES.filter((stage) => Resumed.safeParse(metrics[stage]).success).map((stage) => ({
      bad: false,
      text: `The training of ${stage} went on in another environment, so its bits do not repeat.`,
    })),
  ];
}

/** The share of answers that were cut at the token limit, of all who answered, in one sentence. */
function cutAnswers(
  { rounds, about, tallies: { sampling, evaluation, found } }: ReportInput,
  share: (id: string, part: number, whole: number, artifact: ArtifactRef | undefined) => Html,
  artifacts: StageArtifacts,
): Warning[] {
  const known = rounds.flatMap(({ rollouts }, at) => {
    const truncated = about.rounds[at]?.truncated;
    return truncated === undefined ? [] : [{ rollouts, cut: Math.round(truncated * rollouts) }];
  });
  const sum = (of: (round: (typeof known)[number]) => number): number =>
    known.reduce((all, round) => all + of(round), 0);
  const [cut, all] = [sum((round) => round.cut), sum(({ rollouts }) => rollouts)];
  const parts = [
    ...(sampling && sampling.answers > 0
      ? [
          {
            rate: sampling.truncated / sampling.answers,
            text: html`${share('sampling.truncated', sampling.truncated, sampling.answers, artifacts.sampling)} of the
sampled programs`,
          },
        ]
      : []),
    ...(all > 0
      ? [
          {
            rate: cut / all,
            text: html`${share(
              'reinforcement.truncated',
              cut,
              all,
              artifacts.reinforcement ?? rounds.at(-1)?.artifact,
            )} of the rollouts`,
          },
        ]
      : []),
    ...[...new Set(evaluation.map(({ benchmark }) => benchmark))].map((name) => {
      const own = evaluation.flatMap(({ benchmark, answers }) => (benchmark === name ? [answers] : []));
      const truncated = own.reduce((all, answers) => all + answers.truncated, 0);
      const answers = own.reduce((all, { answers: count }) => all + count, 0);
      return {
        rate: truncated / answers,
        text: html`${share(
          figureName('evaluation', name, 'truncated'),
          truncated,
          answers,
          artifacts.evaluation,
        )} of the answers on <bdi>${name}</bdi>`,
      };
    }),
  ];
  if (parts.length === 0) return [];
  const unknown = rounds.length > known.length ? '. Of some rollouts it was not recorded' : '';
  return [
    {
      bad: parts.some(({ rate }) => rate > MANY),
      text: html`Cut at the token limit: ${joined(
        parts.map(({ text }) => text),
        ', ',
      )}${unknown}.${found.truncated > 0 ? filterButton('truncated', 'show them') : nothing}`,
    },
  ];
}

/** Where a fork leaves its experiment, and what it made again. */
function forkText({ of, from, stages }: Frontier): Html {
  const named = (reused: boolean): string =>
    stages
      .filter((stage) => stage.reused === reused)
      .map(({ name }) => name)
      .join(', ') || 'nothing';
  return html`of <bdi>${of}</bdi> from ${from}; reused: ${named(true)}; made again: ${named(false)}.`;
}

function aboutFacts(
  { about, metrics, rounds, recipe, tallies, fork }: ReportInput,
  figures: Figures,
  artifacts: StageArtifacts,
): [string, HtmlValue][] {
  const { filtering, preferences, rewardModel } = metrics;
  const setting = (name: string): HtmlValue => {
    const found = recipe.find(({ stage, setting: own }) => stage === 'reinforcement' && own === name);
    return found ? figures.show(figureName('recipe', 'reinforcement', name), found.value, found.artifact) : '–';
  };
  const foreign = (text: string): Html => html`<bdi>${text}</bdi>`;
  const period = ({ from, to }: { from: string; to: string }): string => `${dateText(from)} to ${dateText(to)}`;
  const versions = Object.entries(about.versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(', ');
  return [
    ...(fork ? ([['Fork', html`${forkText(fork)} <a href="#fork">Why.</a>`]] as [string, HtmlValue][]) : []),
    ['Base model', foreign(about.baseModel)],
    ...(about.sampler === undefined
      ? []
      : ([['Model that sampled programs', foreign(about.sampler)]] as [string, HtmlValue][])),
    ...(about.backbone === undefined
      ? []
      : ([['Backbone of the reward model', foreign(about.backbone)]] as [string, HtmlValue][])),
    ['Seeds', foreign(about.seeds)],
    ['Questions by', html`${foreign(about.teacher)}. ${about.teacherNote}`],
    [
      'Tests kept by',
      html`the oracle '${about.oracle}'${
        filtering
          ? html`: ${figures.show('filtering.keptTestCases', filtering.keptTestCases, artifacts.filtering)} of
${figures.show(
  'filtering.testCases',
  filtering.testCases,
  artifacts.filtering,
)}, in ${figures.show('filtering.questions', filtering.questions, artifacts.filtering)} questions`
          : nothing
      }`,
    ],
    ['Sampling', foreign(about.sampling)],
    ...(rewardModel && preferences
      ? ([
          [
            'Reward model',
            html`trained on ${figures.show('rewardModel.pairs', rewardModel.pairs, artifacts.rewardModel)} pairs`,
          ],
        ] as [string, HtmlValue][])
      : []),
    ...(rounds.length > 0
      ? ([
          [
            'Reinforcement learning',
            html`${setting('algorithm.name')}, ${setting('promptsPerRound')} questions a round with ${setting(
              'samplesPerPrompt',
            )} rollouts each of at most ${setting('maxNewTokens')} tokens; reward: ${setting(
              'reward.testsWeight',
            )} × tests (${setting('reward.tests')}) + ${setting('reward.rewardModelWeight')} × reward model`,
          ],
        ] as [string, HtmlValue][])
      : []),
    ['Evaluation', html`${joined(about.evaluation.map(foreign), '; ')}`],
    [
      'Hardware',
      about.devices.length > 0
        ? html`${foreign(about.devices.join('; '))}, on ${foreign(about.hosts.join(', '))}`
        : about.hosts.length > 0
          ? html`${foreign(about.hosts.join(', '))}; the device was not recorded`
          : 'not recorded',
    ],
    ['When', about.ran ? period(about.ran) : 'not recorded'],
    ...(about.made ? ([['Artifacts made', period(about.made)]] as [string, HtmlValue][]) : []),
    ['Code', foreign(about.commits.join(', ') || 'not recorded')],
    ['Versions', foreign(versions || 'not recorded')],
    ['Questions on this page', numberText(tallies.questions)],
  ];
}
