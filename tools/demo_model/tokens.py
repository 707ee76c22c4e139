"""The demo model's tokenizer: byte-level BPE learned from the task's own text, and its chat form.

Words, numbers below 100, and Chinese in twos are the largest pieces, so that a grid's reading is
one token a word, and any value or sum is one token. Bytes are the smallest, so any text at all
tokenises. A conversation reads::

    <|im_start|>user
    <image>How many red shapes are there?<|im_end|>
    <|im_start|>assistant
    Row 1: ...<|im_end|>
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1024
PAD, TURN_START, TURN_END = "<|pad|>", "<|im_start|>", "<|im_end|>"
IMAGE, IMAGE_EDGE, GLOBAL_IMAGE = "<image>", "<fake_token_around_image>", "<global-img>"
#: The last is unused, but the processor of this family adds it where it is missing.
SPECIAL = (PAD, TURN_START, TURN_END, IMAGE, IMAGE_EDGE, GLOBAL_IMAGE, "<end_of_utterance>")

_PIECES = r"\p{Han}{1,2}| ?[A-Za-z]+| ?\p{N}{1,2}|\n+| ?[^\s\p{L}\p{N}]+|\s+|\p{L}+"

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{{- part['text'] -}}
{%- elif part['type'] in ('image', 'image_url', 'input_image') -%}
{{- '<image>' -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learn the vocabulary from texts; the same texts give the same tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        extra_special_tokens=[TURN_START, IMAGE, IMAGE_EDGE, GLOBAL_IMAGE, SPECIAL[-1]],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        chat_template=CHAT_TEMPLATE,
    )


def image_text(image_tokens: int) -> str:
    """What one image becomes in the prompt; the processor writes exactly this."""
    return IMAGE_EDGE + GLOBAL_IMAGE + IMAGE * image_tokens + IMAGE_EDGE


def chat_text(prompt: str, *, image: str = "") -> str:
    """A user's turn and the opening of the assistant's, as the chat template renders them."""
    return f"{TURN_START}user\n{image}{prompt}{TURN_END}\n{TURN_START}assistant\n"
