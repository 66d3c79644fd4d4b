"""A language model of about one million parameters, trained on the spot for tests and for watching learning happen.

It knows the corpus' questions only, and answers each with its correct program in some samples and with wrong variants
in others, so that pass rates spread between 0 and 1 and everything downstream has work to do.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from operations import BuildMicroModelParams, BuildMicroModelProgress, BuildMicroModelResult
from runtime.conversation import answer_ids, prompt_ids
from runtime.files import Row, read_rows
from runtime.models import DEVICE, save_model
from runtime.mutation import mutants
from serve import Call, ServiceError

CONTEXT = 1024
VOCABULARY = 1024
BATCH = 16
LEARNING_RATE = 4e-3
INITIALIZER_RANGE = 0.02
WRONG_SHARE = 0.5
"""Share of wrong variants among all training answers."""
WRONG_SHARE_SPREAD = 0.4
"""A question's own share lies between `WRONG_SHARE` minus and plus this, so that easy and hard questions both occur."""
WRONG_VARIANTS = 8
"""Most wrong variants of a question: more would make each too rare to be learned."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_micro_model(params: BuildMicroModelParams, call: Call) -> BuildMicroModelResult:
    """Train a tokenizer and a small Llama from scratch on a corpus of solved questions.

    params: corpus (rows {messages, assistantPrefix} and either completion = a correct Python function, whose wrong
    variants are made here, or answers = programs and shares = how often each is given), output (model folder), seed,
    steps, batch? (answers a step), learningRate? and initializerRange? (deviation of the first weights), by default the
    constants above, phrases? (a token is the text between two numbers of a line, as far as the vocabulary goes, and
    not a word: several times fewer tokens where texts come from few templates). Result: {architecture,
    parameters, vocabulary, steps, loss (mean of the last ten steps, nats a token)}. Errors: `InvalidInput` naming the
    row, `Cancelled`.
    """
    rows = read_rows(params["corpus"], ("messages", "assistantPrefix"))
    if not rows:
        raise ServiceError("InvalidInput", f"The corpus {params['corpus']} is empty; give at least one row.")
    seed, steps, batch_size = params["seed"], params["steps"], params.get("batch", BATCH)
    peak = params.get("learningRate", LEARNING_RATE)
    generator = np.random.Generator(np.random.PCG64(seed))
    answers = [row.get("answers") or _answers(row, number, generator) for number, row in enumerate(rows, start=1)]
    wrong_shares = WRONG_SHARE + WRONG_SHARE_SPREAD * generator.permutation(np.linspace(-1, 1, len(rows)))
    draws = [_draw(row, texts, wrong) for row, texts, wrong in zip(rows, answers, wrong_shares, strict=True)]
    texts = [message["content"] for row in rows for message in row["messages"]]
    texts += [row["assistantPrefix"] + text for row, variants in zip(rows, answers, strict=True) for text in variants]
    tokenizer = train_tokenizer(texts, params.get("phrases", False))
    examples = [_encode(tokenizer, row, texts) for row, texts in zip(rows, answers, strict=True)]
    end_id: Any = tokenizer.eos_token_id
    pad_id: Any = tokenizer.pad_token_id
    torch.manual_seed(seed)
    fresh: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=448,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=params.get("initializerRange", INITIALIZER_RANGE),
            bos_token_id=None,
            eos_token_id=end_id,
            pad_token_id=pad_id,
        )
    )
    model = fresh.to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(islice(_batches(examples, draws, batch_size, generator), steps), start=1):
        call.raise_if_cancelled()
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, step / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = model(**_pad(batch, pad_id)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        metrics: BuildMicroModelProgress = {"loss": losses[-1]}
        call.progress(step, steps, "training the micro model", metrics)
    saved = save_model(model.eval(), tokenizer, params["output"])
    return {**saved, "vocabulary": len(tokenizer), "steps": steps, "loss": sum(losses[-10:]) / len(losses[-10:])}


def _answers(row: Row, number: int, generator: np.random.Generator) -> list[str]:
    """The correct program first, then wrong variants, all written by `ast.unparse` so that form tells nothing."""
    try:
        wrong = mutants(row["completion"])
        correct = ast.unparse(ast.parse(row["completion"]))
    except SyntaxError as error:
        raise ServiceError("InvalidInput", f"The completion of corpus row {number} is not Python: {error}.") from error
    if not wrong:
        raise ServiceError(
            "InvalidInput", f"The completion of corpus row {number} has nothing to mutate; use a function."
        )
    chosen = sorted(generator.permutation(len(wrong))[:WRONG_VARIANTS])
    return [correct, *(wrong[index] for index in chosen)]


def _draw(row: Row, answers: Sequence[str], wrong_share: float) -> Callable[[np.random.Generator], int]:
    """Chooses the index of an answer: by the row's own shares, else the correct one or one of the wrong ones."""
    if shares := row.get("shares"):
        return lambda generator: int(generator.choice(len(answers), p=shares))
    return lambda generator: int(generator.integers(1, len(answers))) if generator.random() < wrong_share else 0


def train_tokenizer(texts: Sequence[str], phrases: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE over `texts` with a chat template; every byte is in the alphabet, so any text can be encoded."""
    bpe = Tokenizer(models.BPE())
    if phrases:
        ends = pre_tokenizers.Split(Regex(r"[0-9]+|\n"), "isolated")
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.pre_tokenizer = pre_tokenizers.Sequence([ends, whole])
    else:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=CONTEXT
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


Example = tuple[list[int], list[int]]
"""Prompt ids and answer ids."""


def _encode(tokenizer: PreTrainedTokenizerFast, row: Row, answers: Sequence[str]) -> list[Example]:
    prompt = prompt_ids(tokenizer, row["messages"], row["assistantPrefix"])
    encoded = [(prompt, answer_ids(tokenizer, row["assistantPrefix"], answer)) for answer in answers]
    if (longest := max(len(prompt) + len(answer) for prompt, answer in encoded)) > CONTEXT:
        raise ServiceError(
            "InvalidInput", f"A corpus row has {longest} tokens; the micro model's context is {CONTEXT}."
        )
    return encoded


def _batches(
    examples: Sequence[Sequence[Example]],
    draws: Sequence[Callable[[np.random.Generator], int]],
    batch_size: int,
    generator: np.random.Generator,
) -> Iterator[list[Example]]:
    """Endless batches: every round asks each question once, with the answer that its draw chooses.

    A batch holds conversations of similar length, because padding costs as much as text.
    """
    while True:
        answers = [variants[draw(generator)] for variants, draw in zip(examples, draws, strict=True)]
        by_length = [answers[index] for index in generator.permutation(len(answers))]
        by_length.sort(key=lambda example: len(example[0]) + len(example[1]))
        for start in generator.permutation(range(0, len(by_length), batch_size)):
            yield by_length[start : start + batch_size]


def _pad(batch: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded tensors [B, T]; only answer tokens have a label."""
    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    rows = [(prompt + answer, len(prompt)) for prompt, answer in batch]
    return {
        "input_ids": torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in rows], device=DEVICE),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows], device=DEVICE),
        "labels": torch.tensor(
            [[-100] * start + ids[start:] + [-100] * (width - len(ids)) for ids, start in rows], device=DEVICE
        ),
    }
