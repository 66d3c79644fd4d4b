"""Requests for samples and the rows that answer them: one form for every engine that samples.

params of `sample`: model (folder), requests (rows {id, messages, assistantPrefix, n, temperature, topP, maxNewTokens,
stop, seeds}), output, maxRows (rows at once), logProbs? (whether rows carry those of their completion's tokens).
Temperature 0 is greedy. Output rows in request and sample order: {id, index, text, finish: "stop" | "length" |
"promptTooLong", promptIds, completionIds, logProbs?}. The text ends before a stop string or the end of sequence, the
ids keep every token the model emitted. A prompt that leaves no room for maxNewTokens is not sampled: its rows have the
finish "promptTooLong", no text and no ids. Log-probabilities are those of logits / temperature, before the nucleus is
cut, in nats. A row's randomness comes from its own seed, not from its neighbours. Result: {rows, tokens}. Errors:
`InvalidInput`, `ModelNotFound`, `OutOfMemory`, `Cancelled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from operations import SampleParams, SampleResult
from runtime.conversation import prompt_ids
from runtime.files import Row, read_rows, write_rows
from serve import ServiceError

PROMPT_TOO_LONG = "promptTooLong"
REQUEST_FIELDS = ("id", "messages", "assistantPrefix", "n", "temperature", "topP", "maxNewTokens", "stop", "seeds")


@dataclass
class Sample:
    """One program in the making: row `index` of `request`."""

    request: Row
    prompt: list[int]
    index: int
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    text: str = ""
    finish: str | None = None
    """`PROMPT_TOO_LONG` before anything is sampled, or None until the row has ended."""

    @property
    def seed(self) -> int:
        return self.request["seeds"][self.index]

    def append(self, token: int, endings: Endings) -> None:
        """Add `token` and end the row where the model, a stop string or the limit does."""
        tokenizer, stops = endings.tokenizer, self.request["stop"]
        self.ids.append(token)
        if token in endings.tokens:
            self.text, self.finish = _decode(tokenizer, self.ids[:-1]), "stop"
            return
        if stops and endings.may_complete(token, stops):
            # A stop string of k bytes is spelled by at most k tokens, so the last few decide whether to read them all.
            tail = _decode(tokenizer, self.ids[-max(len(stop.encode()) for stop in stops) - 1 :])
            if any(stop in tail for stop in stops):
                text = _decode(tokenizer, self.ids)
                self.text, self.finish = text[: min(text.index(stop) for stop in stops if stop in text)], "stop"
                return
        if len(self.ids) == self.request["maxNewTokens"]:
            self.text, self.finish = _decode(tokenizer, self.ids), "length"


class Endings:
    """What ends completions: the model's own tokens, and those that can complete a stop string."""

    def __init__(self, generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        configured: Any = generation.eos_token_id
        own: Any = tokenizer.eos_token_id
        self.tokens: set[int] = {own, *(configured if isinstance(configured, list) else [configured])} - {None}
        self.tokenizer = tokenizer
        self._completing: dict[str, set[int] | None] = {}

    def may_complete(self, token: int, stops: Sequence[str]) -> bool:
        """Whether a text that `token` ends could end with one of `stops`; false is certain.

        Reading a row's last tokens after every token costs more than a small model's step does, and hardly a token has
        the last character of a stop string.
        """
        return any((tokens := self._tokens_with(stop[-1:])) is None or token in tokens for stop in stops)

    def _tokens_with(self, character: str) -> set[int] | None:
        """Tokens whose text has that character; None where the vocabulary does not say."""
        if character not in self._completing:
            # Vocabularies encode other characters, and the space; they write bytes as in <0x60>.
            plain = character.isascii() and character.isprintable() and character != " "
            self._completing[character] = (
                {id for text, id in self.tokenizer.get_vocab().items() if character in text or text.startswith("<0x")}
                if plain
                else None
            )
        return self._completing[character]


def read_samples(params: SampleParams, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> list[Sample]:
    """The samples that the requests ask for, in their order; rows of one request share the prompt's object."""
    samples = []
    for request in read_rows(params["requests"], REQUEST_FIELDS):
        context = config.max_position_embeddings
        _check(request, context)
        prompt = prompt_ids(tokenizer, request["messages"], request["assistantPrefix"])
        fits = len(prompt) + request["maxNewTokens"] <= context
        samples += [
            Sample(request, prompt, index) if fits else Sample(request, [], index, finish=PROMPT_TOO_LONG)
            for index in range(request["n"])
        ]
    return samples


def write_samples(params: SampleParams, samples: Sequence[Sample]) -> SampleResult:
    """Write finished samples as rows of `params["output"]`; returns the result of `sample`."""
    write_rows(
        params["output"],
        (
            {
                "id": row.request["id"],
                "index": row.index,
                "text": row.text,
                "finish": row.finish,
                "promptIds": row.prompt,
                "completionIds": row.ids,
                **({"logProbs": row.log_probs} if params.get("logProbs") else {}),
            }
            for row in samples
        ),
    )
    return {"rows": len(samples), "tokens": sum(len(row.ids) for row in samples)}


def _check(request: Row, context: int) -> None:
    if len(request["seeds"]) != request["n"]:
        raise ServiceError(
            "InvalidInput",
            f"Request {request['id']} has {len(request['seeds'])} seeds for n = {request['n']}; give one a sample.",
        )
    if request["maxNewTokens"] >= context:
        raise ServiceError(
            "InvalidInput",
            f"Request {request['id']} has maxNewTokens {request['maxNewTokens']}; "
            f"the model's context is {context} tokens, which leaves no prompt any room, so lower maxNewTokens.",
        )


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    text: Any = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
