/**
 * Points by the real clients of Weights & Biases and trackio, where `npm run track` has installed them, and what a
 * client that fails says.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { home, root, venvPython } from '../../infra/setup/paths.mjs';
import { ClientTracker, runIdOf, type ClientName } from './client-tracker.js';
import type { Point } from './points.js';

const SCRIPT = join(root, 'workers/trackers/send.py');
const RUN = { workflowId: 'my run/1', project: 'acecoder' };
const folder = mkdtempSync(join(tmpdir(), 'acecoder-trackers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

const rounds = (count: number): Point[] =>
  Array.from({ length: count }, (_, at) =>
    ['reward', 'kl'].map((name) => ({ tag: `reinforcement/${name}`, step: at + 1, value: at / 10, time: 1000 + at })),
  ).flat();
const losses: Point[] = [2, 4].map((step) => ({ tag: 'rewardModel/loss', step, value: 1 / step, time: 500 + step }));

/** The interpreter of a client's environment; undefined, loudly, where there is none. */
function pythonOf(name: ClientName): string | undefined {
  const environment = join(home(), 'trackers', name);
  if (existsSync(join(environment, 'complete'))) return join(environment, 'bin/python');
  console.warn(`SKIPPED: points by the client of ${name}. npm run track -- WORKFLOW_ID --${name} installs it.`);
  return undefined;
}

const read = (python: string, program: string, ...args: string[]): unknown => {
  const { status, stdout, stderr } = spawnSync(python, ['-c', program, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
};

describe('a client of a tracker', () => {
  it('that fails is told by its last words', async () => {
    const script = join(folder, 'fails.py');
    writeFileSync(script, 'import sys\nsys.exit("api_key not configured")\n');
    await expect(new ClientTracker('wandb', venvPython(), script).send(RUN, losses)).rejects.toThrow(
      'the client of wandb failed: api_key not configured',
    );
  });

  it('knows the run by the workflow id, whatever its characters', () => {
    expect(runIdOf('my run/1')).toMatch(/^[0-9a-f]{16}$/);
    expect(runIdOf('my run/1')).not.toBe(runIdOf('my run/2'));
  });
});

const wandb = pythonOf('wandb');
describe.skipIf(wandb === undefined)('Weights & Biases, offline', () => {
  it('has one folder with all points of the run, however often they are sent', { timeout: 120_000 }, async () => {
    vi.stubEnv('WANDB_MODE', 'offline');
    vi.stubEnv('WANDB_DIR', folder);
    const send = (points: Point[]): Promise<{ sent: number }> =>
      new ClientTracker('wandb', wandb!, SCRIPT).send(RUN, points);
    expect(await send([...losses, ...rounds(1)])).toEqual({ sent: 4 });
    expect(await send([...losses, ...rounds(3)])).toEqual({ sent: 8 });
    const runs = readdirSync(join(folder, 'wandb')).filter((name) => name.startsWith('offline-run-'));
    expect(runs).toEqual([expect.stringMatching(new RegExp(`-${runIdOf(RUN.workflowId)}$`))]);
    // Records lie in blocks of 32 KiB, each behind a checksum, its length and whether more of it follows.
    const program = `
import glob, json, struct, sys
from wandb.proto import wandb_internal_pb2
data = open(glob.glob(sys.argv[1] + "/*.wandb")[0], "rb").read()
rows, runs, part, at = [], [], b"", 7
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    _, length, kind = struct.unpack("<IHB", data[at:at + 7])
    part += data[at + 7:at + 7 + length]
    at += 7 + length
    if kind not in (1, 4):
        continue
    record = wandb_internal_pb2.Record()
    record.ParseFromString(part)
    part = b""
    if record.WhichOneof("record_type") == "history":
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        rows.append({key: value for key, value in items.items() if not key.startswith("_")})
    if record.WhichOneof("record_type") == "run":
        runs.append([record.run.run_id, record.run.display_name, record.run.project])
print(json.dumps([runs[0], rows]))
`;
    expect(read(wandb!, program, join(folder, 'wandb', runs[0]!))).toEqual([
      [runIdOf(RUN.workflowId), RUN.workflowId, RUN.project],
      [
        { 'rewardModel/loss': 0.5, 'rewardModel/step': 2 },
        { 'rewardModel/loss': 0.25, 'rewardModel/step': 4 },
        ...[1, 2, 3].map((round) => ({
          'reinforcement/reward': (round - 1) / 10,
          'reinforcement/kl': (round - 1) / 10,
          'reinforcement/step': round,
        })),
      ],
    ]);
  });
});

const trackio = pythonOf('trackio');
describe.skipIf(trackio === undefined)('trackio', () => {
  it('has each point once under one run, however often they are sent', { timeout: 120_000 }, async () => {
    vi.stubEnv('TRACKIO_DIR', join(folder, 'trackio'));
    const send = (points: Point[]): Promise<{ sent: number }> =>
      new ClientTracker('trackio', trackio!, SCRIPT).send(RUN, points);
    expect(await send([...losses, ...rounds(1)])).toEqual({ sent: 4 });
    expect(await send([...losses, ...rounds(3)])).toEqual({ sent: 4 });
    expect(await send([...losses, ...rounds(3)])).toEqual({ sent: 0 });
    const program = `
import json, sys
from trackio.sqlite_storage import SQLiteStorage
project, name = sys.argv[1:]
print(json.dumps([SQLiteStorage.get_runs(project), SQLiteStorage.get_logs(project, name)]))
`;
    const [runs, logs] = read(trackio!, program, RUN.project, RUN.workflowId) as [string[], Record<string, number>[]];
    expect(runs).toEqual([RUN.workflowId]);
    expect(logs.map(({ step }) => step)).toEqual([2, 4, 1, 2, 3]);
    expect(logs.at(-1)).toMatchObject({ 'reinforcement/reward': 0.2, 'reinforcement/kl': 0.2 });
  });
});
