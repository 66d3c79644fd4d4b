/**
 * Bugs that are planted on purpose, to show that the simulation finds them. Some change what the modelled activities
 * do; others change the text of the workflow bundle, as the bundler writes it.
 */
import type { WORKFLOWS } from '../../workflows/contract/index.js';
import type { Replacement } from './workflow-vm.js';

export interface Bug {
  what: string;
  /** Where it is looked for; absent: in whole experiments. */
  workflow?: (typeof WORKFLOWS)[number];
  /** In the bundle; absent: in the modelled activities. */
  replacement?: Replacement;
}

export const BUGS = {
  cursorAhead: { what: 'a checkpoint says one step more than was trained' },
  stepTwiceOnResume: { what: 'a training that goes on applies its last step again' },
  hashByArrival: { what: 'a reward depends on which of verdicts and scores arrived first' },
  staleRewards: { what: 'an update reads the newest reward file, not that of its round' },
  storeOverwrites: { what: 'the store makes again what it has' },
  seedOfAttempt: { what: 'rollouts depend on the attempt' },
  aheadOfPolicy: {
    what: 'rollouts that are sampled ahead are stored before their policy is',
    workflow: 'reinforcement',
  },
  planWithoutRound: { what: 'the key of a plan lacks the round' },
  checkpointOfAnotherUpdate: { what: 'checkpoints have one name for all updates' },
  shardsCountedByAttempt: { what: 'a shard that is done twice counts twice' },
  rowsOfAttempt: { what: 'the rows of a shard depend on the attempt' },
  repliesOfAttempt: { what: 'an arrived reply is found again by the attempt that asked for it alone' },
  repliesStoredAtEnd: { what: 'replies are stored when the last one of a shard has arrived' },
  versionTwice: { what: 'a refresh whose answer was lost publishes its version again' },
  sweepIgnoresAge: { what: 'garbage collection takes files whose document is about to be written' },
  sweepTakesCheckpoints: { what: 'garbage collection takes the checkpoints of a training that runs' },
  sweepTakesShards: { what: 'garbage collection takes the shards of a stage that is not sealed' },
  storeOfRun: { what: 'a run that a reset made does not find what the run before it stored' },
  optimizerStateLost: { what: 'a training that goes on has its steps, and not the state of its optimizer' },
  shardLostAtContinuation: {
    what: 'a sharded stage that goes on as a new run leaves out a shard',
    replacement: { search: 'nextShard: next\n        });', replace: 'nextShard: next + 1\n        });' },
  },
  shardsNotDrained: {
    what: 'a sharded stage goes on, or seals, while shards are in work',
    replacement: { search: 'await Promise.all(running);', replace: 'void running;' },
  },
  roundLostAtContinuation: {
    what: 'reinforcement that goes on as a new run leaves out a round',
    replacement: {
      search: 'round,\n                    policy,\n                    reference,\n                    metrics,',
      replace:
        'round: round + 1,\n                    policy,\n                    reference,\n                    metrics,',
    },
  },
  referenceForgotten: {
    what: 'reinforcement that goes on as a new run starts from the first reference',
    workflow: 'reinforcement',
    replacement: { search: 'void 0 : carry.reference)', replace: 'void 0 : undefined)' },
  },
  preparedForgotten: {
    what: 'an asynchronous round that was prepared ahead is prepared again from the newer policy',
    replacement: { search: 'Promise.resolve(carry.prepared)', replace: 'undefined' },
  },
  lagOfReference: {
    what: 'an asynchronous round samples the reference',
    replacement: { search: 'ahead(round + 1, current)', replace: 'ahead(round + 1, reference)' },
  },
  prunedNotMadeAgain: {
    what: 'a policy that was pruned is not made again where it is needed',
    workflow: 'reinforcement',
    replacement: { search: 'await makeAgain(policy);', replace: 'void policy;' },
  },
  drawForgotten: {
    what: 'reinforcement that goes on as a new run has forgotten what it knew of the questions',
    workflow: 'reinforcement',
    replacement: {
      search: 'drawn ? {\n                    drawn\n',
      replace: 'false ? {\n                    drawn\n',
    },
  },
  takenOverFromFirstDraw: {
    what: 'a draw takes over nothing of the draw before',
    workflow: 'reinforcement',
    replacement: {
      search: 'takenOver(again === null || again === void 0 ? void 0 : again.rollouts)',
      replace: 'takenOver(undefined)',
    },
  },
  rewardsOfFirstDraw: {
    what: 'a round that draws again trains on the rewards of its first draw',
    workflow: 'reinforcement',
    replacement: {
      search: '_object_spread({}, draw.incomplete), {\n                number\n            }));',
      replace:
        '_object_spread({}, draw.incomplete), {\n                number\n            })).then((next)=>' +
        'Object.assign({}, next, { rewards: draw.rewards }));',
    },
  },
  takenOverFromNoTurn: {
    what: 'a repair turn forgets the answers that need none',
    workflow: 'reinforcement',
    replacement: { search: 'earlier: turn\n            }, repairing);', replace: '}, repairing);' },
  },
  rewardsOfFirstTurn: {
    what: 'a round with repair turns is rewarded for its first answers',
    workflow: 'reinforcement',
    replacement: {
      search: 'turn = await answered(round, {\n                plan: feedback,',
      replace: 'await answered(round, {\n                plan: feedback,',
    },
  },
  gangEndsWithHost: {
    what: 'a training on several hosts ends for good where one of them is lost',
    workflow: 'fineTuning',
    replacement: { search: 'if (final) throw final;', replace: 'if (failures[0]) throw failures[0];' },
  },
  gangNotAwaited: {
    what: 'a training on several hosts begins again while hosts of the last attempt train',
    workflow: 'fineTuning',
    replacement: {
      search: 'Promise.allSettled(activities))',
      replace:
        'Promise.allSettled(activities.map((each)=>Promise.race([each, Promise.resolve()' +
        ".then(()=>Promise.reject(new Error('it trains on')))]))))",
    },
  },
  progressOnlyLive: {
    what: 'a stage tells its progress only where it is not replayed',
    replacement: {
      search: 'if (part === _class_private_field_get(this, _told)) return;',
      replace:
        'if (part === _class_private_field_get(this, _told) || ' +
        'globalThis.__TEMPORAL_ACTIVATOR__.info.unsafe.isReplaying) return;',
    },
  },
  garbageTaken: {
    what: 'a signal that is no message of the contract is taken',
    replacement: {
      search: 'if (error) _temporalio_workflow__WEBPACK_IMPORTED_MODULE_0__.log.warn',
      replace: 'if (false) _temporalio_workflow__WEBPACK_IMPORTED_MODULE_0__.log.warn',
    },
  },
  pauseFailsWork: {
    what: 'a pause that is over before the training has stopped fails the training',
    workflow: 'reinforcement',
    replacement: {
      search: 'isCancellation)(error) && interrupted)',
      replace: 'isCancellation)(error) && interrupted && _class_private_field_get(this, _paused))',
    },
  },
  abandonIgnored: {
    what: 'an experiment that is abandoned goes on',
    replacement: { search: '_class_private_field_get(this, _work).cancel();', replace: '' },
  },
  resultsLostAtContinuation: {
    what: 'an experiment that goes on as a new run has lost the results of its stages',
    replacement: {
      search: 'state: _class_private_field_get(this, _state),\n        searchAttributes:',
      replace:
        'state: Object.assign({}, _class_private_field_get(this, _state), { results: {} }),\n        searchAttributes:',
    },
  },
  pauseNotTold: {
    what: 'a stage that starts in a pause is not told of it',
    replacement: {
      search:
        '_class_private_field_set(this, _pauseUntold, true);\n                ' +
        'await _class_private_method_get(this, _tellPause, tellPause).call(this);',
      replace: '_class_private_field_set(this, _pauseUntold, false);',
    },
  },
  pausesUnordered: {
    what: 'an experiment tells a stage of a resumption before the stage has taken the pause',
    replacement: { search: 'if (_class_private_field_get(this, _telling)) return;', replace: '' },
  },
  requestInPause: {
    what: 'a shard that has waited for its share asks the endpoint in a pause',
    replacement: { search: '!run.paused && shares.canTake(all)', replace: 'shares.canTake(all)' },
  },
  failureInPauseLost: {
    what: 'a shard that fails while its stage is paused is forgotten',
    workflow: 'sampling',
    replacement: { search: 'if (failures.length > 0) throw failures[0];', replace: '' },
  },
  childOfResetRefused: {
    what: 'a preview that was reset fails because the stage of the run before still runs',
    workflow: 'preview',
    replacement: {
      search:
        'if (!(error instanceof ' +
        '_temporalio_common__WEBPACK_IMPORTED_MODULE_0__.WorkflowExecutionAlreadyStartedError)) throw error;',
      replace: 'throw error;',
    },
  },
  gateForgotten: {
    what: 'a shard in work goes on in a pause',
    replacement: {
      search: 'const step = `${stage}.${name}`;\n            await run.gate();',
      replace: 'const step = `${stage}.${name}`;',
    },
  },
  pauseLostAtContinuation: {
    what: 'a sharded stage that goes on as a new run has forgotten that it is paused',
    workflow: 'sampling',
    replacement: {
      search:
        'await run.gate();\n        await (0,_temporalio_workflow__WEBPACK_IMPORTED_MODULE_0__.continueAsNew)(input',
      replace: 'await (0,_temporalio_workflow__WEBPACK_IMPORTED_MODULE_0__.continueAsNew)(input',
    },
  },
  retryLosesPatch: {
    what: 'a stage that runs again has the settings that it had before',
    replacement: {
      search: 'const patched = _object_spread_props(_object_spread({}, state), {\n                    config\n',
      replace:
        'const patched = _object_spread_props(_object_spread({}, state), {\n                    config: state.config\n',
    },
  },
  lostStageAwaited: {
    what: 'an experiment waits for a stage that was terminated before a reset',
    replacement: {
      search: 'if (await _class_private_method_get(this, _exists, exists).call(this, stage)) continue;',
      replace: 'continue;',
    },
  },
  cellsDoNotWait: {
    what: 'a cell of a sweep does not wait for the cell whose stages it shares',
    workflow: 'sweep',
    replacement: { search: "if (start.how === 'wait') continue;", replace: '' },
  },
  lookOutFails: {
    what: 'a look at who serves a queue that fails fails the workflow task',
    replacement: {
      search: "_temporalio_workflow__WEBPACK_IMPORTED_MODULE_0__.log.warn('nobody could say who serves the queue', {",
      replace: "throw error; (() => undefined)('', {",
    },
  },
} as const satisfies Record<string, Bug>;
export type BugName = keyof typeof BUGS;
