"""Makes the tiny Qwen2-architecture model and tokenizer that the smoke configuration trains."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import load_question_sets
from floe.cluster.messages import Question
from floe.configs.schema import DataSection, PromptSection

VOCABULARY_SIZE = 3000  # enough that the words of schemas, questions and SQL are one token each
NUM_BATCHES = 240
BATCH_DATABASES, DATABASE_QUESTIONS = 2, 8
PEAK_LEARNING_RATE = 6e-3
INITIALIZER_RANGE = 0.06  # with transformers' 0.02 the embeddings, which are the head too, take twice the batches
SEED = 0
PromptAndAnswer = tuple[tuple[int, ...], tuple[int, ...]]  # token ids

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)


def write_tiny_qwen2(folder: Path, demo_dir: Path) -> None:
    """Write a model that answers some demo questions, pre-trained from scratch on the demo's training pairs.

    It takes about half a minute of one core: matrices this small gain nothing from a second one. The result is
    reproducible on the same kind of machine.
    """
    sets = load_question_sets(DataSection(), demo_dir)
    _write_tokenizer(folder, sets.train)
    torch.manual_seed(SEED)
    encoder = PromptEncoder(folder, sets.databases_dir, PromptSection(style="compact"))
    by_database: dict[str, list[PromptAndAnswer]] = {}
    for question in sets.train:
        sequence = encoder.prompt(question), encoder.answer(question.gold_sql[0])
        by_database.setdefault(question.database_id, []).append(sequence)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=INITIALIZER_RANGE,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _pretrain(model, list(by_database.values()))
    finally:
        torch.set_num_threads(num_threads)
    model.bfloat16().save_pretrained(folder)


def _write_tokenizer(folder: Path, questions: Sequence[Question]) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for question in questions for text in (question.text, question.gold_sql[0])]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = _CHAT_TEMPLATE
    fast.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 1}))


def _pretrain(model: Qwen2ForCausalLM, by_database: Sequence[Sequence[PromptAndAnswer]]) -> None:
    parameters = model.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=NUM_BATCHES, pct_start=0.1, cycle_momentum=False
    )
    order = random.Random(SEED)
    for _ in range(NUM_BATCHES):
        chosen = order.sample(by_database, BATCH_DATABASES)
        parts = [_answer_states(model, order.sample(same, DATABASE_QUESTIONS)) for same in chosen]
        states, tokens = (torch.cat(found) for found in zip(*parts, strict=True))
        loss = torch.nn.functional.cross_entropy(model.lm_head(states), tokens)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _answer_states(model: Qwen2ForCausalLM, sequences: Sequence[PromptAndAnswer]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return hidden states (answer tokens, hidden) and the tokens that they predict (answer tokens).

    The prompts are of one database: their schema, more than half of a sequence, is computed once.
    """
    num_shared = _num_shared([prompt[:-1] for prompt, _ in sequences])
    cache = DynamicCache()
    model.model(input_ids=torch.tensor([sequences[0][0][:num_shared]]), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(sequences))
    width = max(len(prompt) + len(answer) for prompt, answer in sequences) - num_shared
    tokens = torch.ones(len(sequences), width, dtype=torch.int64)
    predicts_answer = torch.zeros(len(sequences), width - 1, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(sequences):
        end = len(prompt) + len(answer) - num_shared
        tokens[row, :end] = torch.tensor((prompt + answer)[num_shared:])
        predicts_answer[row, len(prompt) - num_shared - 1 : end - 1] = True
    states = model.model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True).last_hidden_state
    return states[predicts_answer], tokens[:, 1:][predicts_answer]


def _num_shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return the length of the longest common beginning."""
    first, last = min(prompts), max(prompts)  # in this order all others lie between them
    length = min(len(first), len(last))
    return next((index for index in range(length) if first[index] != last[index]), length)
