/* global document, location, window */
/**
 * The script of a report: finds questions and shows their tests, programs and verdicts. It stands inside the page.
 *
 * What it shows was written by models: texts get into the page by `textContent` alone, never as markup. The index and
 * the shards are JSON in the page, or scripts next to it that call `acecoderIndex` and `acecoderShard`, because a page
 * that is opened from disk may load scripts and no JSON.
 */
(() => {
  const root = document.getElementById('browser');
  if (!root) return;
  const settings = JSON.parse(document.getElementById('browser-settings').textContent);
  const { shardSize, filters, letters, files, indexFile } = settings;
  const PAGE = 50;
  const [search, filter, count, list, more, detail] = ['search', 'filter', 'count', 'found', 'more', 'question'].map(
    (name) => document.getElementById(`browser-${name}`),
  );

  /** An element with a text and attributes. */
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = visible(String(text));
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  /** Control characters as signs that can be seen. */
  const visible = (text) =>
    // eslint-disable-next-line no-control-regex
    text.replace(/[\u0000-\u0008\u000b-\u001f]/g, (character) => String.fromCharCode(0x2400 + character.charCodeAt(0)));

  /** Text of somebody else: it cannot turn the direction of what stands next to it. */
  const foreign = (text) => make('bdi', text);
  const code = (text) => {
    const pre = make('pre', undefined, { dir: 'ltr', tabindex: '0' });
    pre.append(make('code', text));
    return pre;
  };

  let index;
  let texts;
  const shards = new Map();
  const waiting = new Map();

  const script = (file) => {
    const element = make('script');
    element.src = file;
    element.addEventListener('error', () => {
      count.textContent =
        `The file ${file} is not next to this page. ` + 'Get the whole folder of the report, with its questions.';
    });
    document.head.append(element);
  };
  window.acecoderIndex = (text) => {
    index = JSON.parse(text);
    texts = index.map(([id, name, excerpt]) => `${id}\n${name}\n${excerpt}`.toLowerCase());
    filter.disabled = search.disabled = false;
    show();
    open();
  };
  window.acecoderShard = (number, questions) => {
    shards.set(number, questions);
    for (const done of waiting.get(number) ?? []) done(questions);
    waiting.delete(number);
  };
  const shard = (number) =>
    new Promise((done) => {
      if (shards.has(number)) return done(shards.get(number));
      const inside = document.getElementById(`shard-${number}`);
      if (inside) {
        window.acecoderShard(number, JSON.parse(inside.textContent));
        return done(shards.get(number));
      }
      const others = waiting.get(number);
      waiting.set(number, [...(others ?? []), done]);
      if (!others) script(files[number]);
    });

  let matches = [];
  let shown = 0;
  const link = (at) => {
    const [id, name, excerpt, , group] = index[at];
    const item = make('li');
    const anchor = make('a', undefined, { href: `#q=${encodeURIComponent(id)}` });
    anchor.append(make('strong', undefined), ' ', make('span', undefined, { class: 'soft' }));
    anchor.firstChild.append(foreign(name || id));
    anchor.lastChild.append(foreign(group), ': ', foreign(excerpt));
    item.append(anchor);
    return item;
  };
  const showMore = () => {
    list.append(...matches.slice(shown, shown + PAGE).map(link));
    shown = Math.min(matches.length, shown + PAGE);
    more.hidden = shown >= matches.length;
    count.textContent =
      matches.length === 0
        ? 'No question is found.'
        : `${matches.length} of ${index.length} questions are found, ${shown} are listed.`;
  };
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const bit = filter.value === '' ? 0 : filters[filter.value];
    matches = [];
    for (let at = 0; at < index.length; at += 1)
      if ((bit === 0 || index[at][3] & bit) && words.every((word) => texts[at].includes(word))) matches.push(at);
    list.replaceChildren();
    shown = 0;
    showMore();
  };

  const percent = (rate) => `${(100 * rate).toFixed(0)} %`;
  const verdictsOf = (verdicts) => {
    const counts = new Map();
    for (const letter of verdicts) counts.set(letter, (counts.get(letter) ?? 0) + 1);
    return [...counts].map(([letter, times]) => `${letters[letter] ?? letter} ${times}`).join(', ');
  };
  /** Who wrote a program. */
  const writerOf = ({ by, mode, round }) => {
    if (by === 'sampling') return 'sampled';
    return round === undefined ? `policy ${by}, ${mode === 'greedy' ? 'greedy answer' : 'sample'}` : `round ${round}`;
  };
  /** A reward as the sum of its parts. */
  const rewardOf = ({ reward, parts: { tests, rewardModel, lengthPenalty } = {}, left }) => {
    const sum = [
      ...(tests === undefined ? [] : [`tests ${tests}`]),
      ...(rewardModel === undefined ? [] : [`reward model ${rewardModel}`]),
    ].join(' + ');
    const parts = sum && lengthPenalty ? `${sum} − length ${lengthPenalty}` : sum;
    if (reward !== undefined) return [`reward ${reward}${parts ? ` = ${parts}` : ''}`];
    return left === undefined ? [] : [`left out of training: ${left}`];
  };
  const programOf = (question, shown) => {
    const { benchmark, program, times, rate, verdicts, why = [], cut, score, round } = shown;
    const box = make('details', undefined, { class: rate === 1 ? 'program right' : 'program wrong' });
    const summary = make('summary');
    // A reward without tests runs none.
    const isRun = verdicts !== '' || round === undefined;
    const parts = [
      isRun ? (rate === 1 ? '✓ passes all tests' : `✗ passes ${percent(rate)}`) : 'no test was run',
      writerOf(shown),
      ...(benchmark ? [benchmark] : []),
      ...(times > 1 ? [`${times} times`] : []),
      ...rewardOf(shown),
      ...(score === undefined ? [] : [round === undefined ? `reward model ${score}` : `raw score ${score}`]),
      ...(cut ? ['cut at the token limit'] : []),
    ];
    summary.append(foreign(parts.join(' · ')));
    box.append(summary);
    box.addEventListener(
      'toggle',
      () => {
        box.append(code(program), make('p', `Verdicts: ${verdictsOf(verdicts) || 'none'}.`));
        const rows = make('ol', undefined, { class: 'verdicts' });
        const reasons = new Map(why);
        [...verdicts].forEach((letter, at) => {
          const row = make('li', undefined, { class: letter === 'p' ? 'right' : 'wrong' });
          row.append(make('strong', `${letter === 'p' ? '✓' : '✗'} ${letters[letter] ?? letter} `));
          const test = question.tests[at];
          if (test && test.dropped === undefined) row.append(code(test.test));
          if (reasons.has(at)) row.append(make('span', reasons.get(at), { class: 'soft' }));
          rows.append(row);
        });
        box.append(rows);
      },
      { once: true },
    );
    return box;
  };
  const testsOf = (tests, moreTests) => {
    const box = make('div');
    const kept = tests.filter(({ dropped }) => dropped === undefined);
    const gone = tests.filter(({ dropped }) => dropped !== undefined);
    for (const [title, of] of [
      ['Tests that are kept', kept],
      ['Tests that were dropped', gone],
    ]) {
      if (of.length === 0) continue;
      const part = make('details');
      const head = make('summary');
      head.append(make('strong', `${title}: ${of.length}${moreTests && of === kept ? ` and ${moreTests} more` : ''}`));
      part.append(head);
      const rows = make('ol', undefined, { class: 'verdicts' });
      for (const { test, dropped, reason } of of) {
        const row = make('li');
        row.append(code(test));
        if (dropped !== undefined) row.append(make('span', [dropped, reason].filter(Boolean).join(': ')));
        rows.append(row);
      }
      part.append(rows);
      box.append(part);
    }
    return box;
  };
  /** The quality of the tests, in a sentence. */
  const verifierOf = ({ programs: count, tests, duplicates, rank, truePositive, falsePositive, j }) => {
    const rates =
      j === undefined
        ? 'no estimate, because the programs are alike'
        : `J ${j.toFixed(2)} (TPR ${truePositive.toFixed(2)}, FPR ${falsePositive.toFixed(2)}), estimated`;
    return make(
      'p',
      `The tests as a verifier: ${rates} from ${count} programs; rank ${rank} of ${tests}, duplicates ${duplicates}.`,
      { class: 'soft' },
    );
  };
  /** What the rollouts of each round came to, with the round. */
  const headingsOf = (rounds = []) =>
    rounds.map(({ round, samples: count, rate, reward }, at) => {
      const which = rounds.length > 1 ? ` (the ${at === 0 ? 'first' : 'last'} with this question)` : '';
      const figures = [
        `${count} in all`,
        ...(rate === undefined ? [] : [`${percent(rate)} of tests passed`]),
        ...(reward === undefined ? [] : [`mean reward ${reward}`]),
      ];
      return [`Rollouts of round ${round}${which}: ${figures.join(', ')}`, round];
    });
  const showQuestion = (question) => {
    const { id, name, group, source, seed, dropped, tests, moreTests, programs, samples, reference, rounds, verifier } =
      question;
    const title = make('h3', undefined, { tabindex: '-1' });
    title.append(foreign(name || id));
    const about = make('p', undefined, { class: 'soft' });
    about.append(
      foreign([group, ...(source ? [`source ${source}`] : []), ...(seed ? [`seed ${seed}`] : []), id].join(' · ')),
    );
    detail.replaceChildren(title, about);
    if (dropped !== undefined) {
      const why = make('p', 'The question was dropped: ', { class: 'failed' });
      why.append(foreign(dropped));
      detail.append(why);
    }
    const text = make('div', undefined, { class: 'question', dir: 'auto' });
    text.append(foreign(question.question || 'There is no text.'));
    detail.append(text);
    if (reference) {
      const box = make('details');
      box.append(make('summary', 'Program of the reference'), code(reference));
      detail.append(box);
    }
    detail.append(testsOf(tests, moreTests));
    if (verifier) detail.append(verifierOf(verifier));
    const evaluated = programs.filter(({ by, round }) => by !== 'sampling' && round === undefined);
    const sampled = programs.filter(({ by }) => by === 'sampling');
    for (const [heading, of] of [
      ['Before and after training', evaluated],
      ...headingsOf(rounds).map(([heading, number]) => [heading, programs.filter(({ round }) => round === number)]),
      [`Programs that were sampled${samples ? `: ${samples} in all` : ''}`, sampled],
    ]) {
      if (of.length === 0) continue;
      detail.append(make('h4', heading), ...of.map((program) => programOf(question, program)));
    }
    if (programs.length === 0) detail.append(make('p', 'No program was written for it.'));
    detail.hidden = false;
    title.focus();
  };
  /** Opens the question that the address names. */
  const open = () => {
    const wanted = /^#q=(.+)$/.exec(location.hash)?.[1];
    if (wanted === undefined || !index) return;
    let id = wanted;
    try {
      id = decodeURIComponent(wanted);
    } catch {
      // It is no encoded text: it is taken as it is.
    }
    const at = index.findIndex((entry) => entry[0] === id);
    if (at < 0) {
      count.textContent = 'The question of this address is not in this report.';
      return;
    }
    shard(Math.floor(at / shardSize)).then((questions) => showQuestion(questions[at % shardSize]));
  };

  let typed;
  search.addEventListener('input', () => {
    clearTimeout(typed);
    typed = setTimeout(show, 120);
  });
  filter.addEventListener('change', show);
  more.addEventListener('click', showMore);
  window.addEventListener('hashchange', open);
  for (const button of document.querySelectorAll('[data-filter]')) {
    button.hidden = false;
    button.addEventListener('click', () => {
      filter.value = button.getAttribute('data-filter');
      search.value = '';
      if (index) show();
      root.scrollIntoView();
      filter.focus();
    });
  }
  root.hidden = false;
  if (indexFile) script(indexFile);
  else window.acecoderIndex(document.getElementById('browser-index').textContent);
})();

/** A page that is served while an experiment runs shows what is new, unless somebody reads a question. */
(() => {
  const live = document.getElementById('live');
  if (!live) return;
  const look = async () => {
    try {
      const version = await (await fetch('version')).text();
      if (version !== live.getAttribute('data-version')) {
        const reads = document.querySelector('details[open]') || location.hash.startsWith('#q=');
        if (reads) live.hidden = false;
        else location.reload();
      }
    } catch {
      // The server has ended; the page stays as it is.
    }
    setTimeout(look, 5000);
  };
  live.addEventListener('click', () => location.reload());
  setTimeout(look, 5000);
})();
