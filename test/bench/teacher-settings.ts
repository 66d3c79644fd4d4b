/** The settings of `npm run bench:teacher`, with the reasons for them. */

/**
 * Settings of the stages up to the pairs: chosen before anything ran, and never changed after a look at results.
 *
 * @param model name of the teacher at the endpoint.
 * @param slots requests that the endpoint answers at once.
 * @example
 * teacherStages('Qwen2.5-Coder-1.5B-Instruct', 'http://127.0.0.1:8080/v1', 4).filtering;
 */
export const teacherStages = (model: string, baseUrl: string, slots: number) => ({
  synthesis: {
    teacher: { kind: 'openai', model, testCases: 8, maxTokens: 1024, seed: 1 },
    decontaminate: [],
    shardSize: 8,
    execution: {
      window: 1,
      endpoint: {
        baseUrl,
        keyVariable: null,
        prices: { input: 0, output: 0 },
        concurrency: slots,
        timeoutSeconds: 3600,
      },
    },
  },
  // A small model gets so many tests wrong that the five of the paper would leave few questions.
  filtering: { minimumTestCases: 2, heldOutShare: 0, shardSize: 8 },
  sampling: { samples: 8, temperature: 0.8, maxNewTokens: 256, seed: 1, shardSize: 4 },
  hardening: { shardSize: 8 },
  // Any right program against any wrong one: with a few tests the rule of the paper leaves few pairs.
  preferences: { labels: 'strict', maximumPerQuestion: 8 },
});
