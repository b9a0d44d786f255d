"""The tokenizer: a byte-level BPE of our own with Qwen2's splitting, and a ChatML template.

AutoTokenizer (and so vLLM) puts Qwen2's pre-tokenizer into any folder whose config says `qwen2`, whatever
its tokenizer.json says. A BPE trained with another splitting comes back with other ids than it was trained
with, and alignment then destroys the model. So this one is trained with Qwen2's own expression and NFC, and
a test compares ids.

Padding has a token of its own: where it doubles as the end of the text, a collator that masks padding also
masks the end, and the model never learns to stop.
"""

from collections.abc import Iterable

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

END_OF_TEXT, TURN_START, TURN_END, PADDING = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
CONTEXT = 512

# No newline after the last <|im_end|>: what TRL trains on ends with the end of the turn.
# {% generation %} marks the answers, for losses on answers only.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if not loop.first %}{{ '\\n' }}{% endif -%}
{%- if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif -%}
"""


def train_bpe(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE that splits and normalises as Qwen2 does."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END_OF_TEXT, TURN_START, TURN_END, PADDING],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return bpe


def base_tokenizer(bpe: Tokenizer) -> PreTrainedTokenizerFast:
    """For the base model: a text ends with <|endoftext|>, and there is no chat template."""
    return _wrap(bpe, end=END_OF_TEXT)


def chat_tokenizer(bpe: Tokenizer) -> PreTrainedTokenizerFast:
    """For the chat model: a turn ends with <|im_end|>."""
    tokenizer = _wrap(bpe, end=TURN_END)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _wrap(bpe: Tokenizer, end: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=end,
        pad_token=PADDING,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
