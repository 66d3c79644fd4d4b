/** Language models behind an OpenAI-compatible endpoint: how one is reached, how fast, and at what price. */
import { z } from 'zod';
import { count } from './fields.js';

/** How JSON is asked for; `auto` is the first of the others that the endpoint takes. */
export const RESPONSE_FORMATS = ['auto', 'json_schema', 'json_object', 'text'] as const;

/** What is asked of a model at an endpoint. */
export interface Prompt {
  system?: string;
  user: string;
  /** JSON Schema of the reply, for endpoints that take one; absent: the reply is any text. */
  schema?: { name: string; schema: Record<string, unknown> };
}

/** A model at an endpoint, and how it samples. */
export interface EndpointModel {
  /** Its name at the endpoint. */
  model: string;
  /** Null: it is not sent, and the endpoint chooses. */
  temperature: number | null;
  /** As `temperature`. */
  topP: number | null;
  /** Upper limit of a reply, in tokens. */
  maxTokens: number;
  responseFormat: (typeof RESPONSE_FORMATS)[number];
  /** Tokens of a usual reply. */
  expectedReplyTokens: number;
}

/** Tokens of requests and their replies, before anything is asked. */
export interface Tokens {
  prompt: number;
  /** Of usual replies. */
  completion: number;
  /** Where each reply is as long as it may be. */
  completionAtMost: number;
}

/** Code and English have 3 to 4 characters per token; the smaller number counts more tokens. */
export const CHARACTERS_PER_TOKEN = 3;

/** Name of an environment variable of the llm worker. A configuration cannot send the system's own secrets away. */
const KeyVariable = z
  .string()
  .regex(
    /^(?!ACECODER_|TEMPORAL_)[A-Z][A-Z0-9_]*$/,
    'name of an environment variable in capital letters, not ACECODER_* or TEMPORAL_*; never the key itself',
  );
const dollarsPerMillion = z.number().nonnegative();

/**
 * How an endpoint is reached, how fast it may be asked, and what it costs. All workers of the stage share the limits.
 */
export const EndpointExecution = z.strictObject({
  baseUrl: z
    .url({ protocol: /^https?$/ })
    .refine((text) => !URL.canParse(text) || new URL(text).username === '', { error: 'without user and password' })
    .default('https://api.openai.com/v1')
    .describe('address of the OpenAI-compatible endpoint, up to and without /chat/completions'),
  keyVariable: KeyVariable.nullable()
    .default('OPENAI_API_KEY')
    .describe("name of the llm worker's environment variable that holds the key; null: the endpoint needs none"),
  concurrency: count.default(16).describe('requests in flight at once'),
  requestsPerMinute: count.optional().describe('requests per minute; absent: no limit'),
  tokensPerMinute: count.optional().describe('tokens of prompts and replies per minute; absent: no limit'),
  timeoutSeconds: z.number().positive().max(3600).default(180).describe('time for one whole reply, in seconds'),
  prices: z
    .strictObject({
      input: dollarsPerMillion.describe('US dollars per million tokens of prompts'),
      output: dollarsPerMillion.describe('US dollars per million tokens of replies'),
    })
    .optional()
    .describe('what the model costs; needed where it is asked, 0 for an endpoint of your own'),
  batch: z
    .strictObject({
      priceFactor: z
        .number()
        .nonnegative()
        .max(1)
        .default(0.5)
        .describe('price of a reply out of a batch, as a share of the usual one'),
      pollSeconds: z.number().positive().default(30).describe('time between two looks at a batch, in seconds'),
    })
    .optional()
    .describe(
      "ask by the endpoint's Batch API, a batch for each shard, at its price and in its time (up to a day); " +
        'what fails there is asked by itself; absent: each request by itself',
    ),
});
export type EndpointExecution = z.infer<typeof EndpointExecution>;

/** What a stage that asks an endpoint has in its execution. */
export const asking = {
  budgetUsd: z
    .number()
    .positive()
    .optional()
    .describe('what the replies of the stage may cost at most, in US dollars; the stage stops before it is passed'),
  endpoint: EndpointExecution.prefault({}).describe('the endpoint, where a language model is asked'),
};

/** The execution of a stage that asks an endpoint, as far as requests need it. */
export const AskingExecution = z.object({ window: count, ...asking });
export type AskingExecution = z.infer<typeof AskingExecution>;

/**
 * What the check of prices and budget reads. It is made also where other fields are wrong, so that all mistakes are
 * told together.
 */
const PRICED = z.looseObject({
  execution: z.object({
    budgetUsd: z.number().optional(),
    endpoint: z.object({ prices: z.object({ input: z.number(), output: z.number() }).optional() }),
  }),
});

/**
 * Adds the check that who asks an endpoint says what it costs, and how much may be spent. `asks` reads a
 * configuration that may be wrong.
 */
export function priced<S extends z.ZodType>(schema: S, asks: (config: Record<string, unknown>) => boolean): S {
  return schema.superRefine(
    (config, context) => {
      const {
        execution: {
          budgetUsd,
          endpoint: { prices },
        },
      } = config as z.infer<typeof PRICED>;
      if (!prices) {
        context.addIssue({
          code: 'custom',
          path: ['execution', 'endpoint', 'prices'],
          message:
            'needed where an endpoint is asked: {"input": X, "output": Y} in US dollars per million tokens; ' +
            '0 for an endpoint of your own',
        });
      } else if (prices.input + prices.output > 0 && budgetUsd === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['execution', 'budgetUsd'],
          message: 'needed, because the replies cost money: the limit in US dollars',
        });
      }
    },
    { when: ({ value }) => PRICED.safeParse(value).success && asks(value as Record<string, unknown>) },
  );
}

/** Metrics of a stage that asks an endpoint; none of them where it asks nothing. */
export const PaidMetrics = {
  /** What the stored replies cost, in US dollars. */
  costUsd: z.number().optional(),
  /** Requests that were made again, by reason. */
  retries: z.record(z.string(), z.number()).optional(),
  replies: z.number().optional(),
  requests: z.number().optional(),
  storedBefore: z.number().optional(),
  promptTokens: z.number().optional(),
  completionTokens: z.number().optional(),
  estimatedUsage: z.number().optional(),
};
