"""Tiny models with the real classes of their families: random weights, a few hundred kilobytes.

Sizes of pictures and patches are the real ones, so that numbers of image tokens are. Chat templates
are ours, in the shape of the family's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = (
    "how many red shapes are there in the picture? answer the question step by step and end with"
    " final answer: a b c 0 1 2 3 4 5 6 7 8 9 row circle square blue green yes no user assistant"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": False,
}


def tokenizer(specials: Sequence[str], template: str, **names: Any) -> Any:
    """A small byte-level BPE, as Qwen's, with the family's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator([WORDS], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=found, eos_token="<|im_end|>", pad_token="<|endoftext|>", **names
    )
    wrapped.chat_template = template
    return wrapped


def internvl_hf(folder: Path) -> Path:
    """InternVL3 as transformers has it: `InternVLForConditionalGeneration` on Qwen2."""
    import torch
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    specials = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    tokens = tokenizer(
        specials,
        CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [448, 448],
            "patch_size": [14, 14],
        },
        text_config={"model_type": "qwen2", "vocab_size": len(tokens), **TEXT},
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=256,
    )
    model = InternVLForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size={"height": 448, "width": 448}, crop_to_patches=True, min_patches=1, max_patches=12
        ),
        tokenizer=tokens,
        video_processor=InternVLVideoProcessor(size={"height": 448, "width": 448}),
        chat_template=tokens.chat_template,
    ).save_pretrained(folder)
    return folder


_INTERNVL_CHAT_CONFIG = """
from transformers import PretrainedConfig, Qwen2Config


class VisionConfig(PretrainedConfig):
    model_type = "intern_vit_6b"


class ChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    is_composition = True

    def __init__(self, vision_config=None, llm_config=None, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = VisionConfig(**(vision_config or {}))
        self.llm_config = Qwen2Config(**(llm_config or {}))
        self.text_config = self.llm_config
"""


def internvl_chat(folder: Path) -> Path:
    """InternVL2.5 and 3 as released: `InternVLChatModel` on Qwen2, with code in its folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    specials = ["<img>", "</img>", "<IMG_CONTEXT>", "<|video_pad|>"]
    tokens = tokenizer(specials, CHATML.replace("IMAGE", "<image>\n"))
    tokens.save_pretrained(folder)
    torch.manual_seed(0)
    text = Qwen2Config(vocab_size=len(tokens), architectures=["Qwen2ForCausalLM"], **TEXT)
    language = Qwen2ForCausalLM(text).state_dict()
    weights = {f"language_model.{name}": value for name, value in language.items()}
    width, inner, layers, patches = 32, 64, 2, (448 // 14) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, width),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.patch_embedding.bias": (width,),
        "vision_model.embeddings.position_embedding": (1, patches + 1, width),
        "mlp1.0.weight": (4 * width,),
        "mlp1.0.bias": (4 * width,),
        "mlp1.1.weight": (TEXT["hidden_size"], 4 * width),
        "mlp1.1.bias": (TEXT["hidden_size"],),
        "mlp1.3.weight": (TEXT["hidden_size"], TEXT["hidden_size"]),
        "mlp1.3.bias": (TEXT["hidden_size"],),
    }
    for layer in range(layers):
        inside = {
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "mlp.fc1.weight": (inner, width),
            "mlp.fc1.bias": (inner,),
            "mlp.fc2.weight": (width, inner),
            "mlp.fc2.bias": (width,),
            **{f"norm{i}.{what}": (width,) for i in (1, 2) for what in ("weight", "bias")},
            **{f"ls{i}": (width,) for i in (1, 2)},
        }
        shapes |= {f"vision_model.encoder.layers.{layer}.{k}": v for k, v in inside.items()}
    weights |= {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
    save_file(
        {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "configuration_internvl_chat.py").write_text(_INTERNVL_CHAT_CONFIG)
    config = {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_internvl_chat.ChatConfig"},
        "model_type": "internvl_chat",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "image_size": 448,
            "patch_size": 14,
            "num_channels": 3,
            "qkv_bias": True,
            "qk_normalization": False,
            "use_flash_attn": False,
            "hidden_act": "gelu",
            "norm_type": "layer_norm",
            "layer_norm_eps": 1e-6,
            "initializer_factor": 0.1,
        },
        "llm_config": text.to_diff_dict() | {"architectures": ["Qwen2ForCausalLM"]},
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": 448,
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "use_thumbnail": True,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def text_only(folder: Path) -> Path:
    """A model that takes no images: `Qwen2ForCausalLM`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokens = tokenizer([], CHATML)
    tokens.save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokens), **TEXT))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder
