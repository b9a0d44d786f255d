"""Tiny random models with strong adapters, made in a second: they mean nothing, and differ from one another plainly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}"
    "{% generation %}{{- message.content + eos_token }}{% endgeneration %}"
    "{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONTEXT = 256
# Qwen2's own expression: AutoTokenizer puts it back in whatever a tokenizer was trained with
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_model(folder: Path, width: int = 64, layers: int = 3, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,  # vLLM computes no attention whose heads are narrower on a processor
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.15,  # wide enough that greedy answers have no near ties
        tie_word_embeddings=False,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, seed: int, rank: int = 8, **settings: object) -> Path:
    """A random LoRA, strong enough to change every answer."""
    torch.manual_seed(seed)
    options = {
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"],
        **settings,
    }
    model = get_peft_model(Qwen2ForCausalLM.from_pretrained(base), LoraConfig(**options))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(folder)
    return folder


def write_reward_adapter(folder: Path, base: Path) -> Path:
    """A random LoRA with a head that scores."""
    torch.manual_seed(3)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    options = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj"], modules_to_save=["score"])
    get_peft_model(model, options).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_text(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def _text() -> Iterator[str]:
    for name in ("red", "old", "tiny", "brave", "silent", "golden"):
        yield f"<|im_start|>user\nTell me about the {name} fox.<|im_end|>\n"
        yield f"The {name} fox sleeps under the hill — naïve, 狐."
