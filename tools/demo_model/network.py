"""The demo model: a three-million-parameter Idefics3, small enough to ship, real enough to serve.

Idefics3 was chosen because vLLM serves it on a machine without a GPU and without torchvision, and
because it takes an image as a plain square of patches: 96 x 96 pixels, 36 patches, 36 tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.demo_model.tokens import CHAT_TEMPLATE, IMAGE

if TYPE_CHECKING:
    from transformers import (
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        PreTrainedTokenizerFast,
    )

IMAGE_SIDE = 96  # pixels that the model sees; pictures are reduced to it
PATCH = 16  # pixels
PATCHES = IMAGE_SIDE // PATCH  # per side
IMAGE_TOKENS = PATCHES**2
POSITIONS = 4096  # tokens; far above the demo's own ~250, for longer questions


def new_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    """The network with fresh weights, in float32, from torch's current random state."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    ends = tokenizer.eos_token_id
    config = Idefics3Config(
        scale_factor=1,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends,
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIDE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "head_dim": 32,
            "max_position_embeddings": POSITIONS,
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": ends,
            "bos_token_id": None,
        },
    )
    return Idefics3ForConditionalGeneration(config)


def image_settings() -> dict[str, Any]:
    """How a picture is prepared: one square of 96 pixels, values from -1 to 1."""
    return {
        "size": {"longest_edge": IMAGE_SIDE},
        "max_image_size": {"longest_edge": IMAGE_SIDE},
        "do_image_splitting": False,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def new_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """The processor: one square of 96 pixels an image, whatever its size and shape."""
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    images = Idefics3ImageProcessorPil(**image_settings())
    return Idefics3Processor(
        images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE
    )


def save(
    model: Idefics3ForConditionalGeneration, processor: Idefics3Processor, folder: Path
) -> None:
    """Write the folder that vLLM and transformers load: bfloat16 weights, processor, generation."""
    import torch
    from transformers import GenerationConfig, Idefics3ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    copy = Idefics3ForConditionalGeneration(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16)
    copy.generation_config = GenerationConfig(
        eos_token_id=model.config.text_config.eos_token_id,
        pad_token_id=model.config.text_config.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    copy.save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # the weights are written private, and would be installed so


def load(folder: Path) -> tuple[PreTrainedTokenizerFast, Idefics3ForConditionalGeneration]:
    """Tokenizer and model of a saved folder, in float32 as training wants it."""
    import torch
    from transformers import Idefics3ForConditionalGeneration, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = Idefics3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    # What loading alone has set, and saving would write.
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    for config in (model.config.text_config, model.config.vision_config):
        config.dtype = None
    return tokenizer, model.train()
