"""Models and tokenizers of a few kilobytes, made on the spot."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast


def tiny_llama_config(**options) -> LlamaConfig:
    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return LlamaConfig(**(shape | options))


def save_tiny_llama(folder: Path, **options) -> Path:
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(tiny_llama_config(**options)).save_pretrained(folder)
    return folder


def save_word_tokenizer(folder: Path, num_words: int) -> None:
    """Save a tokenizer of the words w0 (unknown), w1 (end and padding), w2 and so on."""
    words = {f"w{number}": number for number in range(num_words)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w1", pad_token="w1").save_pretrained(folder)


def save_byte_tokenizer(folder: Path) -> Path:
    """Save a tokenizer of single bytes with a chat template, which decodes to what it has encoded."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = "{% for one in messages %}<|{{ one.role }}|>{{ one.content }}<|end|>{% endfor %}<|assistant|>"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", chat_template=template
    ).save_pretrained(folder)
    return folder
