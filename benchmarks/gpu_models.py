"""Model folders without weights, in the shapes of families that people train: `load_format=dummy`.

    internvl     InternVL3-8B (`-hf` layout): InternViT of 24 layers, 448 px tiles, Qwen2.5-7B
    qwen2_5_vl   Qwen2.5-VL-7B: its ViT of 32 layers, any size, Qwen2.5-7B

Sizes are those of the published configurations. "tiny" has two narrow layers and the same pictures,
for a rehearsal without a GPU. Tokenizer and chat template are made here; the words mean nothing, as
do the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bare import Frame

_TEXT: dict[str, dict[str, Any]] = {
    "full": {
        **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
        **{"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "tiny": {
        **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 512},
    },
}
_COMMON = {
    **{"max_position_embeddings": 32768, "tie_word_embeddings": False},
    **{"bos_token_id": None, "eos_token_id": None},
}
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}IMAGE{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How to make one, what stands for a picture in its prompts, and the settings it needs."""

    title: str
    make: Callable[[Path, str], None]
    image: str
    settings: tuple[str, ...] = ()

    @property
    def frame(self) -> Frame:
        """What stands around a prompt and in the place of its pictures."""
        return ("<|im_start|>user\n", self.image, "<|im_end|>\n<|im_start|>assistant\n")


def _tokenizer(size: int, image: str, specials: Sequence[str], names: Mapping[str, str]) -> Any:
    """Bytes and made-up words, as many as the model can say."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *specials]
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    words += [f"Ġw{i}" for i in range(size - len(words) - len(special))]
    found = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(special)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=found,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=dict(names),
    )
    wrapped.chat_template = _TEMPLATE.replace("IMAGE", image)
    return wrapped


def internvl(folder: Path, size: str) -> None:
    """Write the folder of an InternVL3."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    text = _TEXT[size]
    tokens = _tokenizer(int(text["vocab_size"]), "<IMG_CONTEXT>\n", [*names.values()], names)
    wide = {
        "full": (1024, 4096, 24, 16),
        "tiny": (32, 64, 2, 2),
    }[size]
    config = InternVLConfig(
        vision_config={
            "hidden_size": wide[0],
            "intermediate_size": wide[1],
            "num_hidden_layers": wide[2],
            "num_attention_heads": wide[3],
            "image_size": [448, 448],
            "patch_size": [14, 14],
        },
        text_config={"model_type": "qwen2", **text, **_COMMON},
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=256,
        architectures=["InternVLForConditionalGeneration"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    side = {"height": 448, "width": 448}
    InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=side, crop_to_patches=True, min_patches=1, max_patches=12
        ),
        tokenizer=tokens,
        video_processor=InternVLVideoProcessor(size=side),
        chat_template=tokens.chat_template,
    ).save_pretrained(folder)


def qwen2_5_vl(folder: Path, size: str) -> None:
    """Write the folder of a Qwen2.5-VL."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    specials = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    text = _TEXT[size]
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    tokens = _tokenizer(int(text["vocab_size"]), image, specials, {})
    start, end, pad, video = tokens.convert_tokens_to_ids(specials)
    wide = {
        "full": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
        "tiny": {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2},
    }[size]
    heads = int(text["num_attention_heads"])
    half = int(text["hidden_size"]) // heads // 2
    sections = [half // 4, (half - half // 4) // 2, half - half // 4 - (half - half // 4) // 2]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    config = Qwen2_5_VLConfig(
        text_config={**text, **_COMMON, "rope_parameters": rope},
        vision_config={
            **wide,
            "out_hidden_size": text["hidden_size"],
            "fullatt_block_indexes": [7, 15, 23, 31] if size == "full" else [1],
        },
        image_token_id=pad,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    sizes = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=sizes),
        tokenizer=tokens,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=tokens.chat_template,
    ).save_pretrained(folder)


SHAPES: Mapping[str, Shape] = {
    "qwen2_5_vl": Shape("Qwen2.5-VL-7B", qwen2_5_vl, "<|vision_start|><|image_pad|><|vision_end|>"),
    "internvl": Shape("InternVL3-8B", internvl, "<IMG_CONTEXT>\n"),
}
