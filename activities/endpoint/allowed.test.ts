/** Which endpoints and keys an llm worker allows: by default, by its list, and whatever an address looks like. */
import { describe, expect, it } from 'vitest';
import { keyFor, readEndpoints } from './allowed.js';

const ENV = {
  OPENAI_API_KEY: ' sk-openai ',
  LLM_KEY: 'sk-llm',
  HF_TOKEN: 'hf-secret',
  AWS_SECRET_ACCESS_KEY: 'aws-secret',
  EMPTY: ' ',
};

/** The key that is sent; an error's message without it where nothing may be asked. */
function asked(list: string | undefined, baseUrl: string, keyVariable: string | null): string {
  try {
    return keyFor(readEndpoints(list), { baseUrl, keyVariable }, ENV) ?? 'no key';
  } catch (error) {
    return (error as Error).message;
  }
}

describe('without a list', () => {
  it('known services have their own key, and this host none', () => {
    expect(asked(undefined, 'https://api.openai.com/v1', 'OPENAI_API_KEY')).toBe('sk-openai');
    expect(asked(undefined, 'https://api.openai.com/v1/', null)).toBe('no key');
    for (const host of ['127.0.0.1:8000', 'localhost:11434', '[::1]:1'])
      expect(asked(undefined, `http://${host}/v1`, null)).toBe('no key');
  });

  it.each([
    ['https://evil.example/v1', 'HF_TOKEN'],
    ['https://evil.example/v1', 'OPENAI_API_KEY'],
    ['https://evil.example/v1', null],
    ['https://api.openai.com/v1', 'HF_TOKEN'],
    ['https://api.openai.com/v1', 'AWS_SECRET_ACCESS_KEY'],
    ['http://api.openai.com/v1', 'OPENAI_API_KEY'],
    ['http://127.0.0.1:8000/v1', 'OPENAI_API_KEY'],
    ['http://169.254.169.254/latest', null],
    ['https://api.openai.com.evil.example/v1', 'OPENAI_API_KEY'],
    ['https://api.openai.com./v1', 'OPENAI_API_KEY'],
    ['https://api.openai.com:8443/v1', 'OPENAI_API_KEY'],
    ['https://api.openai.com@evil.example/v1', 'OPENAI_API_KEY'],
    ['https://user:x@api.openai.com/v1', 'OPENAI_API_KEY'],
    ['https://\u0430pi.openai.com/v1', 'OPENAI_API_KEY'],
    ['https://evil.example\\@api.openai.com/v1', 'OPENAI_API_KEY'],
    ['https://evil.example/?https://api.openai.com', 'OPENAI_API_KEY'],
    ['https://evil.example/#https://api.openai.com', 'OPENAI_API_KEY'],
    ['https://api.openai.com/v1?x=', 'OPENAI_API_KEY'],
    ['https://api.openai.com/v1#', 'OPENAI_API_KEY'],
    ['no address', 'OPENAI_API_KEY'],
    ['', null],
  ])('%s with %s is refused, naming value and variable', (baseUrl, keyVariable) => {
    const message = asked(undefined, baseUrl, keyVariable);
    expect(message).toMatch(/^this llm worker may /);
    expect(message).toContain(`add ${baseUrl}${keyVariable === null ? '' : `=${keyVariable}`} to ACECODER_ENDPOINTS`);
    for (const secret of Object.values(ENV)) if (secret.trim()) expect(message).not.toContain(secret.trim());
  });
});

describe('a list', () => {
  const LIST = ' https://llm.example/team/v1=LLM_KEY|EMPTY , http://127.0.0.1:*';

  it('allows what it names, below the path, and with one of the keys', () => {
    expect(asked(LIST, 'https://llm.example/team/v1', 'LLM_KEY')).toBe('sk-llm');
    expect(asked(LIST, 'https://LLM.example:443/team/v1/deeper', 'LLM_KEY')).toBe('sk-llm');
    expect(asked(LIST, 'http://127.0.0.1:9999', null)).toBe('no key');
    expect(asked(LIST, 'https://llm.example/team/v1', 'EMPTY')).toMatch(/variable EMPTY, .* is not set on this llm/);
  });

  it('takes the place of what is usual, and an empty one allows nothing', () => {
    for (const list of [LIST, '', ' , '])
      expect(asked(list, 'https://api.openai.com/v1', 'OPENAI_API_KEY')).toContain('may not ask the endpoint');
  });

  it.each([
    'https://llm.example/team/v1evil',
    'https://llm.example/team/v1/../../other',
    'https://llm.example/team/v1/%2e%2e/%2e%2e/other',
    'https://llm.example/team',
    'http://llm.example/team/v1',
    'http://127.0.0.1.evil.example:80',
    'http://127.0.0.2:80',
  ])('does not allow %s', (baseUrl) => {
    expect(asked(LIST, baseUrl, null)).toContain('may not ask the endpoint');
  });

  it.each([
    'llm.example',
    'ftp://llm.example',
    'https://llm.example=key',
    'https://u:p@llm.example',
    'https://h/?q=K',
    '*',
    'https://h=A|',
    'https://h:x',
  ])('with the entry %s is refused at the start', (entry) =>
    expect(() => readEndpoints(`http://127.0.0.1:*,${entry}`)).toThrow(
      `ACECODER_ENDPOINTS holds ${JSON.stringify(entry)}`,
    ),
  );
});
