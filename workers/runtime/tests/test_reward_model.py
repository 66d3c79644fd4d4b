from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FORMS, FUNCTIONS, Recorder, question, read_jsonl, weight_digests, write_jsonl
from datasets import Dataset
from jinja2 import TemplateError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from runtime.conversation import REWARD_TEMPLATE, answer_ids, prompt_ids, scored_ids, with_reward_template
from runtime.models import SCORE_SCALE_FILE, import_model, load_reward_model
from runtime.mutation import mutants
from runtime.reward_model import (
    _arguments,
    _Collator,
    _Trainer,
    _training_steps,
    pair_loss,
    question_weights,
    train_reward_model,
)
from runtime.scoring import last_token_scores, score, score_conversations
from serve import Call, Cancelled, ServiceError

STEPS = 8
CONFIG = {
    "learningRate": 1e-3, "epochs": 2, "batchSize": 12, "microBatch": 4, "maxLength": 256, "upperLayers": None,
    "warmupRatio": 0.1, "schedule": "cosine", "centerRewardsCoefficient": 0.01, "seed": 3, "checkpointSeconds": 1e9,
}  # fmt: skip


def train(model: Path, pairs: str, folder: Path, recorder: Recorder | None = None, **changes: Any) -> dict[str, Any]:
    params = {
        "model": str(model), "train": pairs, "heldOut": pairs, "forms": FORMS, "output": str(folder / "output"),
        "checkpoints": str(folder / "checkpoints"), "config": {**CONFIG, **changes.pop("config", {})}, **changes,
    }  # fmt: skip
    return train_reward_model(params, (recorder or Recorder()).call)


def test_training_separates_right_from_wrong_programs(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    result = train(micro_model, pairs, tmp_path, config={"baseline": True, "epochs": 6})
    held_out = result["heldOut"]
    assert result["steps"] == len(result["curve"]) == math.ceil(6 * result["pairs"] / CONFIG["batchSize"])
    assert result["pairs"] == held_out["pairs"] == len(held_out["rows"]) == len(read_jsonl(Path(pairs)))
    assert held_out["questions"] == len(FUNCTIONS)
    assert held_out["accuracy"] > max(0.8, result["before"]["accuracy"])
    assert result["curve"][-1]["loss"] < result["curve"][0]["loss"]
    assert held_out["meanMargin"] == pytest.approx(
        sum(row["chosenScore"] - row["rejectedScore"] for row in held_out["rows"]) / held_out["pairs"]
    )
    assert {file.name for file in (tmp_path / "output").iterdir() if not file.name.startswith("model")} == {
        "chat_template.jinja", "config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_score_gives_the_held_out_scores_again(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    result = train(micro_model, pairs, tmp_path)
    rows = [{**row, "response": row["chosen"]} for row in read_jsonl(Path(pairs))]
    requests = write_jsonl(tmp_path / "rows.jsonl", rows)
    params = {
        "model": str(tmp_path / "output"),
        "rows": requests,
        "forms": FORMS,
        "output": str(tmp_path / "scores.jsonl"),
        "microBatch": 4,
    }
    assert score(params, Recorder().call)["rows"] == len(rows)
    scores = read_jsonl(tmp_path / "scores.jsonl")
    assert [row["id"] for row in scores] == [row["id"] for row in result["heldOut"]["rows"]]
    assert [row["score"] for row in scores] == pytest.approx(
        [row["chosenScore"] for row in result["heldOut"]["rows"]], abs=1e-5
    )


def test_scoring_reads_the_token_that_the_trainer_reads(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    train(micro_model, pairs, tmp_path)
    model, tokenizer = load_reward_model(str(tmp_path / "output"))
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    rows = [{"id": name, "messages": question(name), "response": name} for name in FUNCTIONS]
    params = {
        "model": str(tmp_path / "output"),
        "rows": write_jsonl(tmp_path / "rows.jsonl", rows),
        "forms": FORMS,
        "output": str(tmp_path / "s.jsonl"),
        "microBatch": 16,
    }
    score(params, Recorder().call)
    texts = [tokenizer.decode(scored_ids(tokenizer, row["messages"], row["response"])) for row in rows]
    assert all(text.endswith("\n```<|im_end|>") for text in texts)
    with torch.no_grad():
        pooled = model(**tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)).logits
    assert [row["score"] for row in read_jsonl(tmp_path / "s.jsonl")] == pytest.approx(
        pooled.squeeze(-1).tolist(), abs=1e-5
    )


def test_the_folder_scores_right_by_itself(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    request = "\n\nAnswer with one Python code block."
    train(micro_model, pairs, tmp_path, forms={"python": {"request": request, "opening": "```python\n"}})
    rows = [
        {"id": f"{asked}/{answered}", "messages": question(asked), "response": f"{answered}\n"}
        for asked in FUNCTIONS[:4]
        for answered in FUNCTIONS
    ]
    folder, output = str(tmp_path / "output"), tmp_path / "scores.jsonl"
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    # The forms of the training count, whichever are given later.
    score({"model": folder, "rows": path, "forms": {}, "output": str(output), "microBatch": 8}, Recorder().call)
    page = (Path(__file__).parents[3] / "docs/how-to/results.md").read_text()
    snippet = next(block for block in re.findall(r"```python\n(.*?)^```$", page, re.S | re.M) if "logits" in block)
    for row, scored in zip(rows, read_jsonl(output), strict=True):
        given = {"question": row["messages"][0]["content"], "program": row["response"]}
        # Run as a user does, but for the folder.
        exec(snippet.replace('"models/rewardModel"', repr(folder)), given)
        assert given["score"] == pytest.approx(scored["score"], abs=1e-5)
    ids = given["inputs"]["input_ids"][0].tolist()
    asked, answered = rows[-1]["messages"][0]["content"], rows[-1]["response"]
    assert given["tokenizer"].decode(ids) == (
        f"<|im_start|>user\n{asked}{request}<|im_end|>\n<|im_start|>assistant\n```python\n{answered}```<|im_end|>"
    )


# The template of Qwen2.5-Coder-Instruct without its tools, with which AceCodeRM was trained.
QWEN = r"""{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
LEADING = """  {{ bos_token }}{% for message in messages %}
[{{ message['role'] }}] {{ message['content'] }}
{% endfor %}
"""


@pytest.mark.parametrize("base", [None, QWEN, LEADING], ids=["micro", "qwen", "without generation prompt"])
def test_a_template_of_a_reward_model_ends_the_prompt_of_the_policy(micro_model: Path, base: str | None) -> None:
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = base or tokenizer.chat_template
    asked = [{"role": "user", "content": "Write f().\n\nCode only."}]
    fenced = prompt_ids(tokenizer, asked, "```python\n") + answer_ids(tokenizer, "```python\n", "pass\n")
    plain = prompt_ids(tokenizer, asked, "") + answer_ids(tokenizer, "", "pass\n")
    forms = {
        "python": {"request": "\n\nCode only.", "opening": "```python\n"},
        "other": {"request": "\n\nCode only.", "opening": ""},
    }
    for _ in range(2):  # the second time changes nothing
        with_reward_template(tokenizer, forms)
    bare = [{"role": "user", "content": "Write f()."}]
    assert tokenizer.decode(scored_ids(tokenizer, bare, "pass\n")) == tokenizer.decode(fenced)
    assert tokenizer.decode(scored_ids(tokenizer, bare, "pass\n", "other")) == tokenizer.decode(plain)
    with pytest.raises(TemplateError, match="last message is the program"):
        tokenizer.apply_chat_template(bare, tokenize=False)


def test_a_published_reward_model_is_scored_at_the_end_of_its_own_template(
    micro_model: Path, pairs: str, tmp_path: Path, call: Call
) -> None:
    published = tmp_path / "published"
    shutil.copytree(micro_model, published)
    head = {"v_head.summary.weight": torch.randn(1, 128), "v_head.summary.bias": torch.zeros(1)}
    save_file(head, published / "value_head.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(published)
    tokenizer.chat_template = QWEN
    tokenizer.save_pretrained(published)
    import_model({"source": {"kind": "folder", "path": str(published)}, "output": str(tmp_path / "imported")}, call)
    body = AutoModelForCausalLM.from_pretrained(micro_model).model
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    rows = [{"id": code, "messages": question(code), "response": code} for code in FUNCTIONS]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    for folder in (published, tmp_path / "imported"):
        params = {"model": str(folder), "rows": path, "forms": FORMS, "output": str(tmp_path / "s.jsonl")}
        score({**params, "microBatch": 8}, call)
        for row, scored in zip(rows, read_jsonl(tmp_path / "s.jsonl"), strict=True):
            conversation = [*row["messages"], {"role": "assistant", "content": row["response"]}]
            inputs = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True)
            ids = inputs["input_ids"][0].tolist()
            assert ids[-2:] == [tokenizer.eos_token_id, *line_break]
            with torch.no_grad():
                last_H = body(input_ids=inputs["input_ids"]).last_hidden_state[0, -1]
            assert scored["score"] == pytest.approx((head["v_head.summary.weight"] @ last_H).item(), abs=1e-4)
    # A training goes on with the conversations that the model knows; what this project trained keeps its own.
    train(tmp_path / "imported", pairs, tmp_path / "more")
    assert AutoTokenizer.from_pretrained(tmp_path / "more/output").chat_template.strip() == QWEN.strip()
    (tmp_path / "imported" / SCORE_SCALE_FILE).write_text("{}")
    train(tmp_path / "imported", pairs, tmp_path / "old")
    assert AutoTokenizer.from_pretrained(tmp_path / "old/output").chat_template.startswith(REWARD_TEMPLATE)


@pytest.mark.parametrize(("upper_layers", "stop_at"), [(None, 5), (2, 6), (None, STEPS)])
def test_a_resumed_training_ends_in_the_same_bytes(
    micro_model: Path, pairs: str, tmp_path: Path, upper_layers: int | None, stop_at: int
) -> None:
    config = {"upperLayers": upper_layers}
    undisturbed = train(micro_model, pairs, tmp_path / "a", config=config)
    recorder = Recorder(cancel_at=("training the reward model", stop_at))
    with pytest.raises(Cancelled):
        train(micro_model, pairs, tmp_path / "b", recorder, config=config)
    checkpoint = recorder.checkpoints()[-1]
    assert checkpoint["step"] == stop_at
    resumed = train(micro_model, pairs, tmp_path / "b", resumeFrom=checkpoint["path"], config=config)
    assert resumed == undisturbed
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")


def test_frozen_blocks_keep_their_files(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    train(micro_model, pairs, tmp_path, config={"upperLayers": 1})
    unchanged = set(weight_digests(micro_model)) & set(weight_digests(tmp_path / "output"))
    assert len(unchanged) == 3  # of five files, the last two of which hold the top block


def test_checkpoints_go_by_the_clock_and_the_newest_two_stay(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    recorder = Recorder()
    train(micro_model, pairs, tmp_path, recorder, config={"checkpointSeconds": 0})
    assert [checkpoint["step"] for checkpoint in recorder.checkpoints()] == list(range(1, STEPS + 1))
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-7", "checkpoint-8"]


def test_a_question_weighs_the_same_however_many_pairs_it_has() -> None:
    questions = ["a", "b", "a", "a", "c", "b"]
    weights = question_weights(questions)
    assert sum(weights) == pytest.approx(len(questions))
    of_question = {name: sum(w for w, q in zip(weights, questions, strict=True) if q == name) for name in "abc"}
    assert list(of_question.values()) == pytest.approx([2.0, 2.0, 2.0])


def test_the_loss_equals_the_published_formula() -> None:
    # The paper's equation 1: a question's mean of -log sigmoid(r_i - r_j) over its pairs, then the mean over questions.
    chosen, rejected, questions = [1.0, 0.2, -3.0, 4.0], [0.5, 1.1, -2.0, -40.0], ["a", "b", "b", "b"]
    losses = [math.log1p(math.exp(r - c)) for c, r in zip(chosen, rejected, strict=True)]
    expected = (losses[0] + sum(losses[1:]) / 3) / 2
    tensors = [torch.tensor(values, dtype=torch.float64) for values in (chosen, rejected, question_weights(questions))]
    assert pair_loss(*tensors, 0.0).item() == pytest.approx(expected, abs=1e-6)
    centred = sum((c + r) ** 2 for c, r in zip(chosen, rejected, strict=True)) / 4
    tensors[2] = torch.ones(4, dtype=torch.float64)
    assert pair_loss(*tensors, 0.3).item() == pytest.approx(sum(losses) / 4 + 0.3 * centred, abs=1e-6)


def test_weights_of_one_give_the_loss_and_gradient_of_trl(micro_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = load_reward_model(str(micro_model), torch.float64)
    pairs = [
        {f"{side}_ids": scored_ids(tokenizer, question(code), text) for side, text in sides.items()}
        for code in FUNCTIONS
        for wrong in mutants(code)[:2]
        for sides in [{"chosen": code, "rejected": wrong}]
    ]
    trainer = _Trainer(
        model=model, args=_arguments(CONFIG, str(tmp_path), 1, STEPS), train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer, data_collator=_Collator(tokenizer.pad_token_id),
    )  # fmt: skip
    model.train()
    plain = DataCollatorForPreference(tokenizer.pad_token_id)(pairs)
    weighted = _Collator(tokenizer.pad_token_id)([{**pair, "weight": 1.0} for pair in pairs])
    theirs, own = RewardTrainer.compute_loss(trainer, model, plain), trainer.compute_loss(model, weighted)
    assert own.item() == pytest.approx(theirs.item(), abs=1e-6)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for a, b in zip(torch.autograd.grad(own, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_pairs_of_a_question_stand_together_where_questions_weigh_the_same() -> None:
    pairs = [
        {"questionId": f"q{index % 5}", "chosen_ids": [0] * (index % 7), "rejected_ids": [0] * (index % 3)}
        for index in range(30)
    ]
    together, apart = (
        [index for step in _training_steps(pairs, 2, 12, 3, flag) for index in step] for flag in (True, False)
    )
    for order in (together, apart):
        assert sorted(order) == sorted([*range(30), *range(30)]) != order
    for start in range(0, 60, 6):
        assert len({pairs[index]["questionId"] for index in together[start : start + 6]}) == 1
    assert together[:30] != together[30:]
    assert len({pairs[index]["questionId"] for index in apart[:6]}) > 1


@pytest.mark.parametrize("config", [{"questionWeighting": True}, {"lora": {"rank": 8, "alpha": 16}}])
def test_options_train_and_resume_in_the_same_bytes(
    micro_model: Path, pairs: str, tmp_path: Path, config: dict[str, Any]
) -> None:
    rows = read_jsonl(Path(pairs))[5:]  # the first questions have fewer pairs than the others
    uneven = write_jsonl(tmp_path / "uneven.jsonl", rows)
    config = {**config, "gradientCheckpointing": True, "learningRate": 3e-3, "epochs": 4}
    undisturbed = train(micro_model, uneven, tmp_path / "a", config=config)
    recorder = Recorder(cancel_at=("training the reward model", 5))
    with pytest.raises(Cancelled):
        train(micro_model, uneven, tmp_path / "b", recorder, config=config)
    path = recorder.checkpoints()[-1]["path"]
    assert train(micro_model, uneven, tmp_path / "b", resumeFrom=path, config=config) == undisturbed
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")
    assert undisturbed["heldOut"]["accuracy"] > 0.7
    if "lora" in config:  # merged: the folder is that of any reward model
        assert all("lora" not in name for name in load_reward_model(str(tmp_path / "a/output"))[0].state_dict())


def test_a_published_value_head_scores_with_its_bias(micro_model: Path, pairs: str, tmp_path: Path, call: Call) -> None:
    published, imported = tmp_path / "published", tmp_path / "imported"
    shutil.copytree(micro_model, published)
    generator = torch.Generator().manual_seed(3)
    head = {
        "v_head.summary.weight": torch.randn(1, 128, generator=generator),
        "v_head.summary.bias": torch.tensor([2.5]),
    }
    save_file(head, published / "value_head.safetensors")
    import_model({"source": {"kind": "folder", "path": str(published)}, "output": str(imported)}, call)
    body = AutoModelForCausalLM.from_pretrained(micro_model).model
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    conversation = scored_ids(tokenizer, question(FUNCTIONS[0]), FUNCTIONS[0])
    with torch.no_grad():
        last_H = body(input_ids=torch.tensor([conversation])).last_hidden_state[0, -1]
    expected = (head["v_head.summary.weight"] @ last_H).item() + 2.5
    for folder in (published, imported):
        model, _ = load_reward_model(str(folder))
        assert score_conversations(model, [conversation], 1, call) == pytest.approx([expected], abs=1e-4)
    trained = train(imported, pairs, tmp_path, config={"epochs": 1})
    assert trained["heldOut"]["pairs"] == len(read_jsonl(Path(pairs)))
    assert load_reward_model(str(tmp_path / "output"))[0].score.bias.item() != 2.5  # trained and kept


def test_padding_may_equal_the_end_of_a_conversation(micro_model: Path, pairs: str, tmp_path: Path, call: Call) -> None:
    model, tokenizer = load_reward_model(str(micro_model))
    conversations = [scored_ids(tokenizer, question(code), code) for code in FUNCTIONS]
    alone = [score_conversations(model, [ids], 1, call)[0] for ids in conversations]
    model.config.pad_token_id = tokenizer.eos_token_id
    assert score_conversations(model, conversations, 16, call) == pytest.approx(alone, abs=1e-5)
    shutil.copytree(micro_model, tmp_path / "equal")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "equal")
    different, equal = (train(path, pairs, tmp_path / path.name) for path in (micro_model, tmp_path / "equal"))
    assert equal["heldOut"]["rows"] == different["heldOut"]["rows"]


def test_long_pairs_are_counted(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    rows = read_jsonl(Path(pairs))
    rows[0]["chosen"] = "x = 1\n" * 200
    long = write_jsonl(tmp_path / "long.jsonl", rows)
    result = train(micro_model, long, tmp_path, heldOut=long)
    assert (result["tooLong"], result["pairs"]) == (1, len(rows) - 1)
    assert (result["heldOutTooLong"], result["heldOut"]["pairs"]) == (1, len(rows) - 1)


def test_divergence_names_step_and_learning_rate(micro_model: Path, pairs: str, tmp_path: Path) -> None:
    recorder = Recorder()
    config = {"learningRate": 1e30, "warmupRatio": 0, "checkpointSeconds": 0}
    with pytest.raises(ServiceError, match=r"step 2 with learning rate 1e\+30") as error:
        train(micro_model, pairs, tmp_path, recorder, config=config)
    assert error.value.type == "TrainingDiverged"
    assert not (tmp_path / "output").exists()
    (kept,) = recorder.checkpoints()
    assert (kept["step"], Path(kept["path"]).is_dir()) == (1, True)


def test_the_head_scores_in_float32_over_a_model_in_bfloat16(micro_model: Path) -> None:
    torch.manual_seed(3)
    model: Any = load_reward_model(str(micro_model), torch.bfloat16)[0]
    after_loading = torch.rand(1)
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_pretrained(micro_model, dtype=torch.bfloat16, num_labels=1)
    assert torch.rand(1) == after_loading, "the head draws from the seed of what comes later"
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    ids_BT = torch.arange(5, 325).reshape(64, 5)
    mask_BT = torch.ones_like(ids_BT)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden_BH = model.base_model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state[:, -1]
        score_B = last_token_scores(model, ids_BT, mask_BT)
    assert score_B.dtype == torch.float32
    exact_B = hidden_BH.double() @ model.score.weight.double()[0]
    torch.testing.assert_close(score_B.double(), exact_B, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"microBatch": 5}, "batchSize 12 is no multiple of microBatch 5"),
        ({"upperLayers": 9}, "the model has 4 blocks"),
        ({"maxLength": 3}, "at most maxLength = 3 tokens; raise maxLength"),
        ({"upperLayers": 1, "lora": {"rank": 4, "alpha": 8}}, "lora and upperLayers exclude each other"),
    ],
)
def test_impossible_settings_are_refused(
    micro_model: Path, pairs: str, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ServiceError, match=message) as error:
        train(micro_model, pairs, tmp_path, config=config)
    assert error.value.type == "InvalidInput"
