"""The one place where a conversation becomes text and token ids: sampling, training and scoring all render here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from operations import ConversationForm

Message = dict[str, str]
FENCE = "```"
REWARD_TEMPLATE = "{#- Renders a question and a program as a reward model of acecoder-temporal reads them. -#}"
"""The first line of the templates that `reward_template` makes."""


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], assistant_prefix: str) -> list[int]:
    """Token ids of the chat template's prompt followed by the text that opens the assistant's answer."""
    return _encode(tokenizer, _prompt(tokenizer, messages, assistant_prefix))


def scored_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], program: str, language: str | None = None
) -> list[int]:
    """Token ids of question and program as a reward model reads them: by the chat template of its own folder.

    The score is read at the last of them, wherever the template ends an answer. Without `language` the template's
    default one is meant.
    """
    answered = [*messages, {"role": "assistant", "content": program}]
    named: dict[str, Any] = {} if language is None else {"language": language}
    text: Any = tokenizer.apply_chat_template(answered, tokenize=False, **named)
    return _encode(tokenizer, text)


def with_reward_template(tokenizer: PreTrainedTokenizerBase, forms: Mapping[str, ConversationForm]) -> None:
    """Give `tokenizer` the template of `reward_template`, made of its own one; nothing changes where it has it."""
    base: Any = tokenizer.chat_template
    if not base.startswith(REWARD_TEMPLATE):
        tokenizer.chat_template = reward_template(base, forms)


def reward_template(base: str, forms: Mapping[str, ConversationForm]) -> str:
    """A chat template that renders [{user: question}, {assistant: program}] as policies are asked and answer.

    The prompt is that of the template `base` for the question and a language's `request`. Then come the language's
    `opening`, the program, the fence that closes what the opening leaves open, and the end of sequence, which is always
    the last token. `forms` = {language: {request, opening}}; the first language is meant where no `language` is given.
    """
    names = {
        name: {**form, "closing": f"\n{FENCE}" if form["opening"].count(FENCE) % 2 else ""}
        for name, form in forms.items()
    }
    head = (
        "{%- if messages[-1].role != 'assistant' %}"
        "{{- raise_exception('The last message is the program, by the assistant.') }}"
        "{%- endif -%}\n"
        f"{{%- set form = {json.dumps(names)}[language | default({json.dumps(next(iter(names)))})] -%}}\n"
        "{%- set program = messages[-1].content.rstrip() -%}\n"
        "{%- set asked = namespace(messages=[]) -%}\n"
        "{%- for message in messages[:-1] -%}\n"
        "{%- set request = form.request if loop.last else '' -%}\n"
        "{%- set asked.messages = asked.messages + [{'role': message.role, 'content': message.content ~ request}] -%}\n"
        "{%- endfor -%}\n"
        "{%- set messages = asked.messages -%}\n"
        # Without a dash, which would take white space from the base.
        "{%- set add_generation_prompt = true %}\n"
    )
    # Jinja drops the line break at the end of a template, which is no longer the base's.
    tail = "{{ form.opening ~ program ~ form.closing ~ eos_token }}"
    return f"{REWARD_TEMPLATE}\n{head}{base.removesuffix(chr(10))}{tail}"


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
