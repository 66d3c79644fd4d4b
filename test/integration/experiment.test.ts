/** The whole chain on a micro model, against the real server and the real store. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, inject, it } from 'vitest';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { resultsOf } from '../../activities/artifacts/results.js';
import type { Figure } from '../../activities/report/figures.js';
import {
  PairRow,
  ProgramRow,
  RewardRow,
  RolloutRow,
  STAGES,
  Summary,
  type ArtifactRef,
  type ExperimentStatus,
} from '../../workflows/contract/index.js';
import { artifactStore, failureOf, queryOf, startWorkflow, statusWhere, updateOf } from '../fixtures/harness.js';

import { artifactsOf, firstRun, firstRunHandle, micro, rowsOf, type Result } from '../fixtures/chain.js';

describe('the whole chain', () => {
  it('runs from seeds to a report whose figures are those of its artifacts', async () => {
    const result = await firstRun();
    const summary = Summary.parse(JSON.parse(readFileSync(result.summary, 'utf8')));
    expect(summary.assertions.filter(({ ok }) => !ok)).toEqual([]);
    expect(summary.stages.map(({ name, state }) => [name, state])).toEqual(STAGES.map((name) => [name, 'done']));
    const recipe = Object.fromEntries(
      summary.recipe.map(({ stage, setting, value }) => [`${stage}: ${setting}`, value]),
    );
    expect(recipe).toMatchObject({
      'preferences: labels': 'rate',
      'preferences: minimumBest': 0.6,
      'rewardModel: epochs': 12,
      'rewardModel: questionWeighting': false,
      'reinforcement: reward.rewardModelWeight': 0.2,
      'reinforcement: algorithm.name': 'reinforce++',
      'reinforcement: algorithm.beta': 0.01,
    });
    expect(Object.keys(recipe).filter((name) => name.includes('execution'))).toEqual([]);
    expect(existsSync(result.html)).toBe(true);
    expect(readFileSync(result.html, 'utf8')).toContain(summary.stages[0]!.artifact.key);
    const figures = JSON.parse(readFileSync(join(dirname(result.html), 'figures.json'), 'utf8')) as Figure[];
    // Added tests reach the rollouts of RL.
    expect(figures.find(({ id }) => id === 'hardening.rollouts.first.questions')?.value).toBeGreaterThan(0);
    const { injected, dropped, droppedInjected } = summary.data.filterQuality!;
    expect(injected).toBeGreaterThan(0);
    expect(droppedInjected).toBeLessThanOrEqual(Math.min(injected, dropped));
    expect(
      summary.data.dropped
        .filter(({ stage, what }) => stage === 'filtering' && what === 'testCase')
        .reduce((sum, { count }) => sum + count, 0),
    ).toBe(dropped);
    for (const { folder } of summary.models) expect(existsSync(`${folder}/config.json`), folder).toBe(true);

    const artifacts = artifactsOf(result);
    const programs = await rowsOf<ProgramRow>(artifacts.sampling, ProgramRow);
    expect(programs).toHaveLength(summary.data.programs);
    const heldOut = new Set(programs.filter(({ split }) => split === 'heldOut').map(({ questionId }) => questionId));
    expect(heldOut.size).toBeGreaterThan(0);
    const pairs = await rowsOf<PairRow>(artifacts.preferences, PairRow);
    expect(pairs).toHaveLength(summary.data.pairs);
    expect(
      pairs.filter(({ questionId }) => heldOut.has(questionId)),
      'held-out questions among the training pairs',
    ).toEqual([]);
  });

  it('leaves its results in the store, and beside the cache of this host as links', async () => {
    const { stages, report, fetch, summary } = (await firstRun()) as Result & { report: ArtifactRef; fetch: string };
    const run = await firstRunHandle();
    expect(fetch).toBe(`npm run fetch -- ${run.workflowId}`);
    const store = artifactStore();
    const { results } = await resultsOf(store, run.workflowId);
    expect(results).toEqual({ report, ...Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) });
    const stored = (await store.manifest(report)).files;
    expect(stored.map(({ name }) => name)).toEqual([
      ...['experiment.json', 'figures.json', 'report.html', 'summary.json'],
      expect.stringMatching(/^tensorboard\/events\.out\.tfevents\.\d+\.acecoder$/) as string,
    ]);
    expect(readFileSync(await store.fetch(stored[3]!), 'utf8')).toBe(readFileSync(summary, 'utf8'));
    for (const { folder } of Summary.parse(JSON.parse(readFileSync(summary, 'utf8'))).models) {
      const { nlink, mode } = statSync(`${folder}/config.json`);
      expect(nlink).toBeGreaterThan(1);
      expect(mode & 0o222).toBe(0);
    }
    const { memo } = await run.describe();
    expect(memo).toMatchObject({ report: report.key, fetch });
    // A link opens the report without a key. No result and no memo holds one.
    expect(JSON.stringify([memo, await run.result()])).not.toContain('X-Amz-Signature');
    const { report: shown } = await queryOf<ExperimentStatus>(run, 'status');
    expect(await (await globalThis.fetch(shown!.link!.url)).text()).toContain(stages[0]!.artifact.key);
  });

  it('is reported by the command too, with the same figures, in a folder and on loopback', async () => {
    const { html } = await firstRun();
    const { workflowId } = await firstRunHandle();
    const target = mkdtempSync(join(tmpdir(), 'report-command-'));
    const command = (...args: string[]) => commandOf('report', ...args);
    const commandOf = (name: string, ...args: string[]) =>
      spawn(process.execPath, ['--import', 'tsx', join(root, `infra/commands/${name}.ts`), workflowId, ...args], {
        cwd: root,
        env: { ...process.env, ...inject('environment') },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    const written = command(target);
    const said = text(written.stderr);
    expect(await once(written, 'exit'), await said).toEqual([0, null]);
    const figures = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));
    expect(figures(join(target, 'figures.json'))).toEqual(figures(join(dirname(html), 'figures.json')));
    expect(readdirSync(target).sort()).toEqual(['figures.json', 'report.html', 'summary.json', 'tensorboard']);
    const events = join(target, 'tensorboard', readdirSync(join(target, 'tensorboard'))[0]!);

    const tracked = commandOf('track', '--tensorboard', join(target, 'tracked'));
    const told = text(tracked.stderr);
    expect(await once(tracked, 'exit'), await told).toEqual([0, null]);
    expect(readFileSync(join(target, 'tracked/events.out.tfevents.0.acecoder'))).toEqual(readFileSync(events));
    expect(readFileSync(events, 'latin1')).toContain('reinforcement/reward');
    rmSync(target, { recursive: true });

    const watching = command('--watch');
    const ended = once(watching, 'exit');
    const address = await new Promise<string>((found, failed) => {
      let output = '';
      watching.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        const [, url] = /(http:\S+)/.exec(output) ?? [];
        if (url) found(url);
      });
      watching.on('exit', () => failed(new Error(output)));
    });
    const page = await (await fetch(address)).text();
    expect(page).toContain('id="live"');
    expect(await (await fetch(new URL('version', address))).text()).toMatch(/^[0-9a-f]{16}$/);
    expect((await fetch(new URL('../../etc/passwd', address))).status).toBe(404);
    watching.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
  });

  it('gives its models with cards, whose Python loads and uses them', { tags: 'long' }, async () => {
    await firstRun();
    const { workflowId } = await firstRunHandle();
    const target = mkdtempSync(join(tmpdir(), 'models-'));
    const fetching = spawn(
      process.execPath,
      ['--import', 'tsx', join(root, 'infra/commands/fetch.ts'), workflowId, target, '--models'],
      { cwd: root, env: { ...process.env, ...inject('environment') }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const said = text(fetching.stderr);
    expect(await once(fetching, 'exit'), await said).toEqual([0, null]);
    const names = readdirSync(join(target, 'models')).sort();
    expect(names).toEqual(['fineTuned', 'policy', 'rewardModel']);
    for (const name of names) {
      const folder = join(target, 'models', name);
      const card = readFileSync(join(folder, 'README.md'), 'utf8');
      expect(card).toMatch(/^---\nlibrary_name: transformers\n/);
      const [, code] = /```python\n([^]*?)\n```/.exec(card)!;
      const given = 'question = "Write double(n)."\nprogram = "def double(n):\\n    return 2 * n"\n';
      const python = spawn(
        venvPython(),
        ['-c', `${given}${code}\nprint(${name === 'rewardModel' ? 'score' : 'answer'})`],
        {
          cwd: folder,
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      );
      const [told, wrong] = [text(python.stdout), text(python.stderr)];
      expect(await once(python, 'exit'), await wrong).toEqual([0, null]);
      expect((await told).trim()).not.toBe('');
    }
    rmSync(target, { recursive: true });
  });

  it('trains each round on exactly the planned rollouts less the recorded drops', async () => {
    const summary = Summary.parse(JSON.parse(readFileSync((await firstRun()).summary, 'utf8')));
    expect(summary.reinforcement.rounds.map(({ round }) => round)).toEqual([1, 2]);
    for (const { artifact, trained, rollouts: planned } of summary.reinforcement.rounds) {
      const { inputs } = await artifactStore().manifest(artifact);
      const rollouts = await rowsOf<RolloutRow>(inputs['rollouts'] as ArtifactRef, RolloutRow);
      const rewards = await rowsOf<RewardRow>(inputs['rewards'] as ArtifactRef, RewardRow);
      expect(rewards.map(({ id }) => id)).toEqual(rollouts.map(({ id }) => id));
      expect(rollouts).toHaveLength(planned);
      expect(rewards.filter(({ dropped }) => dropped === undefined)).toHaveLength(trained);
    }
  });

  it('reuses every stage of an equal experiment, and says whose work it is', async () => {
    await firstRun();
    const handle = await startWorkflow('experiment', micro('again'));
    const result = (await handle.result()) as Result;
    expect(result.stages.map(({ reused }) => reused)).toEqual(STAGES.map(() => true));
    expect(artifactsOf(result)).toEqual(artifactsOf(await firstRun()));
  });
});

describe('parking', () => {
  it('waits for retryStage, refuses a wrong patch with the reason, and goes on with a right one', async () => {
    await firstRun();
    const experiment = micro('parked');
    const handle = await startWorkflow('experiment', {
      ...experiment,
      onFailure: 'park',
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages.reinforcement, promptsPerRound: 1000 } },
    });
    const parked = await statusWhere(handle, ({ state }) => state === 'parked');
    const stage = parked.stages.find(({ name }) => name === 'reinforcement')!;
    expect(stage.state).toBe('parked');
    expect(stage.failure?.type).toBe('InvalidExperiment');
    expect(stage.failure?.message).toMatch(/promptsPerRound is 1000, there are \d+ train questions/);
    expect(stage.failure?.advice).toContain(`--workflow-id ${handle.workflowId} --name retryStage`);

    const retry = (request: unknown): Promise<string> => updateOf(handle, 'retryStage', request);
    const refused = async (request: unknown): Promise<string> =>
      retry(request).then(
        () => 'accepted',
        (error: Error) => (error.cause as Error | undefined)?.message ?? error.message,
      );
    expect(await refused({ stage: 'reinforcement', semantics: { promptsPerRound: 4 } })).toContain(
      '"allowRepeat": true',
    );
    expect(await refused({ stage: 'reinforcement', execution: { microBatch: -1 } })).toContain('execution.microBatch');
    expect(await refused({ stage: 'sampling' })).toContain('sampling is done');
    expect(await refused({ stage: 'nothing' })).toContain('stage');
    expect(
      await retry({
        stage: 'reinforcement',
        semantics: { promptsPerRound: 4 },
        execution: { microBatch: 4 },
        allowRepeat: true,
      }),
    ).toContain('reinforcement runs again');
    const result = (await handle.result()) as Result;
    expect(result.stages.map(({ name }) => name)).toEqual([...STAGES]);
  });

  it('gives up on abandon with the reason', async () => {
    await firstRun();
    const experiment = micro('abandoned');
    const handle = await startWorkflow('experiment', {
      ...experiment,
      onFailure: 'park',
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages.reinforcement, promptsPerRound: 1000 } },
    });
    await statusWhere(handle, ({ state }) => state === 'parked');
    await updateOf(handle, 'abandon', { reason: 'not worth it' });
    expect(await failureOf(handle)).toEqual({ type: 'Abandoned', message: 'abandoned: not worth it' });
  });

  it('fails instead of parking where nobody watches', async () => {
    const experiment = micro('unattended');
    const handle = await startWorkflow('experiment', {
      ...experiment,
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages.reinforcement, promptsPerRound: 1000 } },
    });
    expect(await failureOf(handle)).toMatchObject({ type: 'InvalidExperiment' });
  });
});

describe('an experiment that cannot run', () => {
  it('is refused at once with all mistakes', async () => {
    const handle = await startWorkflow('experiment', {
      ...micro('wrong'),
      models: {},
      stages: { sampling: { samples: -1 }, evaluation: { samples: 2, passAtK: [4] }, sythesis: {} },
    });
    const { type, message } = await failureOf(handle);
    expect(type).toBe('InvalidExperiment');
    for (const text of ['models.policy', 'stages.sampling.samples', 'stages.sythesis: no such field'])
      expect(message).toContain(text);
  });

  it('names seeds and references that do not exist', async () => {
    const handle = await startWorkflow('experiment', {
      ...micro('absent'),
      seeds: { kind: 'seeds', path: '/nowhere/seeds.jsonl' },
      models: {
        policy: {
          kind: 'artifact',
          ref: { kind: 'model', key: 'artifacts/model/none.json', digest: '0'.repeat(64), bytes: 1 },
        },
      },
    });
    const { type, message } = await failureOf(handle);
    expect(type).toBe('InvalidExperiment');
    expect(message).toContain('/nowhere/seeds.jsonl');
    expect(message).toContain('artifacts/model/none.json');
  });
});
