"""The one place where a conversation becomes text and token ids: sampling, training and scoring all render here."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
FENCE = "```"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], assistant_prefix: str) -> list[int]:
    """Token ids of the chat template's prompt followed by the text that opens the assistant's answer."""
    return _encode(tokenizer, _prompt(tokenizer, messages, assistant_prefix))


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], assistant_prefix: str, response: str
) -> list[int]:
    """Token ids of prompt, opened answer, `response` and the end of the answer.

    A Markdown fence that the prefix leaves open is closed, so that a reward model sees programs as a policy writes
    them. The last token is always the tokenizer's end of sequence.
    """
    prompt = _prompt(tokenizer, messages, assistant_prefix)
    return _encode(tokenizer, prompt + answer_text(tokenizer, assistant_prefix, response))


def answer_text(tokenizer: PreTrainedTokenizerBase, assistant_prefix: str, response: str) -> str:
    """`response` with an open fence closed and the end of sequence appended: what a policy writes after the prefix."""
    closing = f"\n{FENCE}" if assistant_prefix.count(FENCE) % 2 else ""
    return f"{response.rstrip()}{closing}{tokenizer.eos_token}"


def answer_ids(tokenizer: PreTrainedTokenizerBase, assistant_prefix: str, response: str) -> list[int]:
    """Token ids of `answer_text`, encoded apart from the prompt: what a policy adds to the prompt's tokens."""
    return _encode(tokenizer, answer_text(tokenizer, assistant_prefix, response))


def _prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], assistant_prefix: str) -> str:
    prompt = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return f"{prompt}{assistant_prefix}"


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The chat template writes every special token itself.
    return tokenizer(text, add_special_tokens=False)["input_ids"]
