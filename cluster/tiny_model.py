"""Makes the tiny Qwen2-architecture model and tokenizer that the smoke configuration trains."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from actors.data.question_sets import load_question_sets
from actors.prompt_encoder import PromptEncoder
from cluster.messages import Question
from configs.schema import DataSection, PromptSection

VOCABULARY_SIZE = 3000  # enough that the words of schemas, questions and SQL are one token each
NUM_BATCHES = 250
BATCH_QUESTIONS = 32
PEAK_LEARNING_RATE = 3e-3
SEED = 0

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)


def write_tiny_qwen2(folder: Path, demo_dir: Path) -> None:
    """A model that answers some demo questions: pre-trained from scratch on the demo's training pairs, under a minute.

    Reproducible for the same kind of machine and thread count.
    """
    sets = load_question_sets(DataSection(), demo_dir)
    _write_tokenizer(folder, sets.train)
    torch.manual_seed(SEED)
    encoder = PromptEncoder(folder, sets.databases_dir, PromptSection(style="compact"))
    sequences = [(encoder.prompt(question), encoder.answer(question.gold_sql[0])) for question in sets.train]
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    _pretrain(model, sequences)
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


def _pretrain(model: Qwen2ForCausalLM, sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=NUM_BATCHES)
    order = random.Random(SEED)
    pairs = list(sequences)
    for _ in range(NUM_BATCHES):
        batch = order.sample(pairs, BATCH_QUESTIONS)
        width = max(len(prompt) + len(answer) for prompt, answer in batch)
        tokens = torch.ones(BATCH_QUESTIONS, width, dtype=torch.int64)
        predicts_answer = torch.zeros(BATCH_QUESTIONS, width - 1, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(batch):
            end = len(prompt) + len(answer)
            tokens[row, :end] = torch.tensor(prompt + answer)
            predicts_answer[row, len(prompt) - 1 : end - 1] = True
        hidden = model.model(input_ids=tokens[:, :-1]).last_hidden_state[predicts_answer]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), tokens[:, 1:][predicts_answer])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
