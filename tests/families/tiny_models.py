"""Tiny models with the real classes of their families: random weights, a few hundred kilobytes.

Sizes of pictures and patches are the real ones, so that numbers of image tokens are. Chat templates
are ours, in the shape of the family's.
"""

from __future__ import annotations

import base64
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


def tokenizer(
    specials: Sequence[str], template: str, *, sentencepiece: bool = False, **names: Any
) -> Any:
    """A small byte-level BPE, as Qwen's, with the family's special tokens; or with the marks for
    blanks that Llama's and Gemma's have. Where there is a BOS token it is put in front, as theirs.
    """
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.BPE(byte_fallback=sentencepiece))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = [WORDS]
    if sentencepiece:
        found.normalizer = normalizers.Replace(" ", "▁")
        found.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        specials = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
        alphabet = [chr(code) for code in range(33, 127)] + ["\n"]
        words = [WORDS, *["\n\n"] * 50, *["\n\n\n"] * 50, *["\n\n\n\n"] * 50]
    else:
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700 if sentencepiece else 400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *specials],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    found.train_from_iterator(words, trainer)
    if bos := names.get("bos_token"):
        found.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, found.token_to_id(bos))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=found, eos_token="<|im_end|>", pad_token="<|endoftext|>", **names
    )
    wrapped.chat_template = template
    return wrapped


def internvl_hf(folder: Path, weights: bool = True) -> Path:
    """InternVL3 as transformers has it: `InternVLForConditionalGeneration` on Qwen2."""
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
    _save(folder, config, InternVLForConditionalGeneration, weights)
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
from transformers import PretrainedConfig, Qwen2Config, Qwen3Config


class VisionConfig(PretrainedConfig):
    model_type = "intern_vit_6b"


class InternLM2Config(PretrainedConfig):
    model_type = "internlm2"

    def __init__(self, rope_theta=10000.0, bias=False, rms_norm_eps=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.rope_theta, self.bias, self.rms_norm_eps = rope_theta, bias, rms_norm_eps
        self.hidden_act = "silu"


TEXTS = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "internlm2": InternLM2Config}


class ChatConfig(PretrainedConfig):
    model_type = "internvl_chat"
    is_composition = True

    def __init__(self, vision_config=None, llm_config=None, **kwargs):
        super().__init__(**kwargs)
        self.vision_config = VisionConfig(**(vision_config or {}))
        llm_config = dict(llm_config or {})
        self.llm_config = TEXTS[llm_config.pop("model_type", "qwen2")](**llm_config)
        self.text_config = self.llm_config
"""


def internvl_chat(folder: Path, weights: bool = True) -> Path:
    """InternVL2.5 and 3 as released: `InternVLChatModel` on Qwen2, with code in its folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokens = _internvl_chat(folder, "qwen2", "Qwen2ForCausalLM")
    if not weights:
        return folder
    width, inner, layers, patches = 32, 64, 2, (448 // 14) ** 2
    torch.manual_seed(0)
    language = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokens), **TEXT)).state_dict()
    weights = {f"language_model.{name}": value for name, value in language.items()}
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
    return folder


def internvl_chat_qwen3(folder: Path, weights: bool = False) -> Path:
    """InternVL3.5, of which prompts can be made, and no weights."""
    _internvl_chat(folder, "qwen3", "Qwen3ForCausalLM", head_dim=32)
    return folder


def internvl_chat_internlm2(folder: Path, weights: bool = False) -> Path:
    """InternVL2-8B, likewise; its template begins with BOS."""
    _internvl_chat(folder, "internlm2", "InternLM2ForCausalLM", bos="<s>")
    return folder


def _internvl_chat(folder: Path, kind: str, text: str, bos: str = "", **more: Any) -> Any:
    """All but the weights; returns the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    specials = ["<img>", "</img>", "<IMG_CONTEXT>", "<|video_pad|>", *([bos] if bos else [])]
    tokens = tokenizer(
        specials, bos + CHATML.replace("IMAGE", "<image>\n"), **({"bos_token": bos} if bos else {})
    )
    tokens.save_pretrained(folder)
    (folder / "configuration_internvl_chat.py").write_text(_INTERNVL_CHAT_CONFIG)
    config = {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_internvl_chat.ChatConfig"},
        "model_type": "internvl_chat",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
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
        "llm_config": {
            **TEXT,
            **more,
            "model_type": kind,
            "architectures": [text],
            "vocab_size": len(tokens),
        },
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
    return tokens


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


def _save(folder: Path, config: Any, kind: Any, weights: bool) -> None:
    """The model of a configuration; without weights, which prompts do not need, only that."""
    import torch

    config.architectures = [kind.__name__]
    config.dtype = "bfloat16"
    if weights:
        torch.manual_seed(0)
        kind(config).to(torch.bfloat16).save_pretrained(folder)
    else:
        config.save_pretrained(folder)


def _as_published(file: Path) -> None:
    """Name a CLIP tower's weights as published models do; transformers 5 writes them otherwise."""
    from safetensors.torch import load_file, save_file

    old, new = "vision_tower.", "vision_tower.vision_model."
    weights = {name.replace(old, new): value for name, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _chat(opening: str, picture: str, closing: str, reply: str, before: str = "") -> str:
    """A chat template: turns of a user, with `picture` where a picture stands, and the reply's
    beginning."""
    return (
        before + "{% for message in messages %}" + opening + "{% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}"
        + picture
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        + closing
        + "{% endfor %}{% if add_generation_prompt %}"
        + reply
        + "{% endif %}"
    )


PICTURES_FIRST = (
    "{% for message in messages %}OPENING"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}CLOSING{% endfor %}{% if add_generation_prompt %}REPLY{% endif %}"
)
"""As LLaVA's: all pictures before all texts."""


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        **more,
    }


def _qwen_vl(folder: Path, version: str, reply: str, weights: bool) -> Path:
    import transformers

    tokens = tokenizer(
        ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
        _chat(
            "<|im_start|>{{ message['role'] }}\n",
            "<|vision_start|><|image_pad|><|vision_end|>",
            "<|im_end|>\n",
            "<|im_start|>assistant\n" + reply,
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        ),
    )
    ids = {
        f"{name}_token_id": tokens.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in [
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        ]
    }
    new = version == "Qwen3VL"
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "out_hidden_size": TEXT["hidden_size"],
        "patch_size": 16 if new else 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        **({"deepstack_visual_indexes": [0]} if new else {"fullatt_block_indexes": [1]}),
    }
    text = {"vocab_size": len(tokens), **TEXT}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5]}
    text["rope_parameters"] = {**rope, "mrope_interleaved": True} if new else rope
    if new:
        text["head_dim"] = 32
    config = getattr(transformers, f"{version}Config")(
        text_config=text, vision_config=vision, tie_word_embeddings=False, **ids
    )
    _save(folder, config, getattr(transformers, f"{version}ForConditionalGeneration"), weights)
    areas = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16_384 * 28 * 28}
    image = transformers.Qwen2VLImageProcessor(
        size=areas, patch_size=vision["patch_size"], merge_size=2
    )
    video = getattr(transformers, "Qwen3VLVideoProcessor" if new else "Qwen2VLVideoProcessor")
    getattr(transformers, f"{version}Processor")(
        image_processor=image,
        tokenizer=tokens,
        video_processor=video(),
        chat_template=tokens.chat_template,
    ).save_pretrained(folder)
    return folder


def qwen2_5_vl(folder: Path, weights: bool = True) -> Path:
    """Qwen2.5-VL."""
    return _qwen_vl(folder, "Qwen2_5_VL", "", weights)


def qwen3_vl(folder: Path, weights: bool = True) -> Path:
    """Qwen3-VL."""
    return _qwen_vl(folder, "Qwen3VL", "", weights)


def qwen3_vl_thinking(folder: Path, weights: bool = True) -> Path:
    """Qwen3-VL-Thinking, whose prompt opens the thought."""
    return _qwen_vl(folder, "Qwen3VL", "<think>\n", weights)


def _clip(weights: bool, **more: Any) -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(**_vision(image_size=336, patch_size=14, projection_dim=32, **more))


def _llama(tokens: Any, kind: str = "llama") -> dict[str, Any]:
    return {"model_type": kind, "vocab_size": len(tokens), **TEXT}


def _llava(folder: Path, version: str, template: str, weights: bool, **more: Any) -> Path:
    import transformers

    tokens = tokenizer(["<s>", "<image>"], template, sentencepiece=True, bos_token="<s>")
    config = getattr(transformers, f"{version}Config")(
        vision_config=_clip(weights),
        text_config=_llama(tokens),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        **more,
    )
    _save(folder, config, getattr(transformers, f"{version}ForConditionalGeneration"), weights)
    if weights:
        _as_published(folder / "model.safetensors")
    images = {"Llava": transformers.CLIPImageProcessor, "LlavaNext": None}[version]
    getattr(transformers, f"{version}Processor")(
        image_processor=(images or transformers.LlavaNextImageProcessor)(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
        ),
        tokenizer=tokens,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def llava_1_5(folder: Path, weights: bool = True) -> Path:
    """LLaVA-1.5, whose template leaves BOS to the tokenizer."""
    template = (
        PICTURES_FIRST.replace("OPENING", "{{ message['role'].upper() }}: ")
        .replace("CLOSING", " ")
        .replace("REPLY", "ASSISTANT:")
    )
    return _llava(folder, "Llava", template, weights)


def llava_next(folder: Path, weights: bool = True) -> Path:
    """LLaVA-NeXT, likewise."""
    template = (
        PICTURES_FIRST.replace("OPENING", "[INST] ").replace("CLOSING", " [/INST]")
    ).replace("REPLY", "")
    grid = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    return _llava(folder, "LlavaNext", template, weights, image_grid_pinpoints=grid)


def llava_onevision(folder: Path, weights: bool = True) -> Path:
    """LLaVA-OneVision on Qwen2."""
    import transformers

    template = _chat(
        "<|im_start|>{{ message['role'] }} ",
        "{{ '<image>\n' }}",
        "<|im_end|>",
        "<|im_start|>assistant\n",
    )
    tokens = tokenizer(["<image>", "<video>"], template)
    grid = [[384 * a, 384 * b] for a in range(1, 7) for b in range(1, 7)]
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            **_vision(image_size=384, patch_size=14, vision_use_head=False),
        },
        text_config=_llama(tokens, "qwen2"),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )
    _save(folder, config, transformers.LlavaOnevisionForConditionalGeneration, weights)
    transformers.LlavaOnevisionProcessor(
        image_processor=transformers.LlavaOnevisionImageProcessor(
            size={"height": 384, "width": 384}, image_grid_pinpoints=grid
        ),
        tokenizer=tokens,
        video_processor=transformers.LlavaOnevisionVideoProcessor(),
        num_image_tokens=729,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def gemma3(folder: Path, weights: bool = True) -> Path:
    """Gemma 3."""
    import transformers

    template = _chat(
        "<start_of_turn>{{ message['role'] }}\n",
        "<start_of_image>",
        "<end_of_turn>\n",
        "<start_of_turn>model\n",
        "{{ bos_token }}",
    )
    specials = ["<bos>", "<start_of_turn>", "<end_of_turn>"]
    specials += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokens = tokenizer(
        specials,
        template,
        sentencepiece=True,
        bos_token="<bos>",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    config = transformers.Gemma3Config(
        vision_config=_vision(image_size=896, patch_size=14),
        text_config=_llama(tokens, "gemma3_text") | {"head_dim": 32},
        mm_tokens_per_image=256,
        boi_token_index=tokens.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokens.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokens.convert_tokens_to_ids("<image_soft_token>"),
    )
    _save(folder, config, transformers.Gemma3ForConditionalGeneration, weights)
    transformers.Gemma3Processor(
        image_processor=transformers.Gemma3ImageProcessor(
            size={"height": 896, "width": 896}, image_seq_length=256
        ),
        tokenizer=tokens,
        image_seq_length=256,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def _idefics(folder: Path, name: str, side: int, most: int, weights: bool) -> Path:
    import transformers

    template = _chat(
        "<|im_start|>{{ message['role'].capitalize() }}:"
        "{% if message['content'] is not string and message['content'][0]['type'] == 'text' %}"
        " {% endif %}",
        "<image>",
        "<end_of_utterance>\n",
        "Assistant:",
    )
    specials = ["<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
    specials += [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokens = tokenizer(
        specials,
        template,
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
    )
    patch, scale = (14, 2) if name == "Idefics3" else (16, 4)
    config = getattr(transformers, f"{name}Config")(
        vision_config=_vision(image_size=side, patch_size=patch),
        text_config=_llama(tokens) | {"pad_token_id": 0},
        scale_factor=scale,
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    _save(folder, config, getattr(transformers, f"{name}ForConditionalGeneration"), weights)
    processor = getattr(transformers, f"{name}Processor")
    more = {"video_processor": transformers.SmolVLMVideoProcessor()} if name == "SmolVLM" else {}
    processor(
        image_processor=getattr(transformers, f"{name}ImageProcessor")(
            size={"longest_edge": most * side}, max_image_size={"longest_edge": side}
        ),
        tokenizer=tokens,
        image_seq_len=(side // patch) ** 2 // scale**2,
        chat_template=template,
        **more,
    ).save_pretrained(folder)
    return folder


def idefics3(folder: Path, weights: bool = True) -> Path:
    """Idefics3, as the demo model, with the pieces that the real one cuts."""
    return _idefics(folder, "Idefics3", 364, 4, weights)


def smolvlm2(folder: Path, weights: bool = True) -> Path:
    """SmolVLM2."""
    return _idefics(folder, "SmolVLM", 512, 4, weights)


def glm_4_1v(folder: Path, weights: bool = True) -> Path:
    """GLM-4.1V-Thinking, whose prompt opens the thought."""
    import transformers

    template = _chat(
        "<|{{ message['role'] }}|>\n",
        "<|begin_of_image|><|image|><|end_of_image|>",
        "",
        "<|assistant|>\n<think>",
        "[gMASK]<sop>",
    )
    specials = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"]
    specials += [f"<|begin_of_{kind}|>" for kind in ("image", "video")]
    specials += [f"<|end_of_{kind}|>" for kind in ("image", "video")]
    specials += ["<|image|>", "<|video|>"]
    tokens = tokenizer(specials, template)
    names = {
        "image_start_token_id": "<|begin_of_image|>",
        "image_end_token_id": "<|end_of_image|>",
        "video_start_token_id": "<|begin_of_video|>",
        "video_end_token_id": "<|end_of_video|>",
        "image_token_id": "<|image|>",
        "video_token_id": "<|video|>",
    }
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]}
    config = transformers.Glm4vConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": TEXT["hidden_size"],
            "image_size": 336,
            "patch_size": 14,
        },
        text_config={
            "vocab_size": len(tokens),
            **TEXT,
            "rope_parameters": rope | {"partial_rotary_factor": 0.5},
            "pad_token_id": 0,
        },
        **{key: tokens.convert_tokens_to_ids(token) for key, token in names.items()},
    )
    _save(folder, config, transformers.Glm4vForConditionalGeneration, weights)
    transformers.Glm4vProcessor(
        image_processor=transformers.Glm4vImageProcessor(),
        tokenizer=tokens,
        video_processor=transformers.Glm4vVideoProcessor(),
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def _mistral(folder: Path, version: str, weights: bool) -> Path:
    import transformers

    template = _chat("[INST]", "[IMG]", "[/INST]", "", "{{ bos_token }}")
    tokens = tokenizer(
        ["<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"],
        template,
        bos_token="<s>",
    )
    old = version == "Llava"
    patch, side, merge = (16, 1024, 1) if old else (14, 1540, 2)
    more = {"image_token_index": tokens.convert_tokens_to_ids("[IMG]")}
    if old:
        more |= {"vision_feature_select_strategy": "full", "vision_feature_layer": -1}
    else:
        more |= {"spatial_merge_size": merge, "vision_feature_layer": -1}
    config = getattr(transformers, f"{version}Config")(
        vision_config={
            "model_type": "pixtral",
            **_vision(image_size=side, patch_size=patch, head_dim=16),
        },
        text_config=_llama(tokens, "mistral") | {"head_dim": 32},
        **more,
    )
    _save(folder, config, getattr(transformers, f"{version}ForConditionalGeneration"), weights)
    transformers.PixtralProcessor(
        image_processor=transformers.PixtralImageProcessor(
            size={"longest_edge": side}, patch_size={"height": patch, "width": patch}
        ),
        tokenizer=tokens,
        patch_size=patch,
        spatial_merge_size=merge,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def pixtral_hf(folder: Path, weights: bool = True) -> Path:
    """Pixtral as transformers has it: LLaVA's class with Pixtral's tower."""
    return _mistral(folder, "Llava", weights)


def mistral3(folder: Path, weights: bool = True) -> Path:
    """Mistral Small 3.1 and later."""
    return _mistral(folder, "Mistral3", weights)


def pixtral(folder: Path, weights: bool = False) -> Path:
    """Pixtral in Mistral's own format: `params.json` and `tekken.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    special = 1_000
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]"]
    names += ["[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]"]
    names += ["<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"]
    vocabulary = [
        {"rank": byte, "token_bytes": base64.b64encode(bytes([byte])).decode(), "token_str": None}
        for byte in range(256)
    ]
    tekken = {
        "config": {
            "pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
            "num_vocab_tokens": 256,
            "default_vocab_size": 256 + special,
            "default_num_special_tokens": special,
            "version": "v3",
        },
        "vocab": vocabulary,
        "special_tokens": [
            {"rank": rank, "token_str": name, "is_control": True}
            for rank, name in enumerate(
                [*names, *(f"<SPECIAL_{i}>" for i in range(len(names), special))]
            )
        ],
        "multimodal": {"image_patch_size": 16, "max_image_size": 1024},
    }
    (folder / "tekken.json").write_text(json.dumps(tekken))
    params = {
        "dim": 64,
        "n_layers": 2,
        "head_dim": 32,
        "hidden_dim": 128,
        "n_heads": 2,
        "n_kv_heads": 2,
        "norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "vocab_size": 256 + special,
        "max_position_embeddings": 32_768,
        "vision_encoder": {
            "hidden_size": 32,
            "num_channels": 3,
            "image_size": 1024,
            "patch_size": 16,
            "rope_theta": 10_000.0,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "adapter_bias": True,
            "image_token_id": names.index("[IMG]"),
            "image_break_token_id": names.index("[IMG_BREAK]"),
            "image_end_token_id": names.index("[IMG_END]"),
        },
    }
    (folder / "params.json").write_text(json.dumps(params))
    from safetensors.torch import save_file

    save_file({}, folder / "consolidated.safetensors")  # By its name vLLM knows the format.
    return folder


def llama4(folder: Path, weights: bool = True) -> Path:
    """Llama 4."""
    import transformers

    template = _chat(
        "<|header_start|>{{ message['role'] }}<|header_end|>\n\n",
        "<|image|>",
        "<|eot|>",
        "<|header_start|>assistant<|header_end|>\n\n",
        "<|begin_of_text|>",
    )
    specials = ["<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>"]
    specials += ["<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>"]
    specials += ["<|tile_x_separator|>", "<|tile_y_separator|>"]
    tokens = tokenizer(specials, template, bos_token="<|begin_of_text|>")
    width = 32
    config = transformers.Llama4Config(
        vision_config={
            **_vision(image_size=336, patch_size=14),
            "intermediate_size": 4 * width,
            "vision_output_dim": width,
            "projector_input_dim": width,
            "projector_output_dim": width,
        },
        text_config={
            "vocab_size": len(tokens),
            **TEXT,
            "intermediate_size_mlp": 128,
            "head_dim": 32,
            "num_local_experts": 2,
        },
        image_token_index=tokens.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokens.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokens.convert_tokens_to_ids("<|image_end|>"),
    )
    _save(folder, config, transformers.Llama4ForConditionalGeneration, weights)
    transformers.Llama4Processor(
        image_processor=transformers.Llama4ImageProcessor(
            size={"height": 336, "width": 336}, max_patches=16, resize_to_max_canvas=False
        ),
        tokenizer=tokens,
        patch_size=14,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


_KIMI_CODE = '''
import math

import numpy
import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor


class KimiVLImageProcessor(BaseImageProcessor):
    model_input_names = ["pixel_values", "image_grid_hws"]

    def __init__(self, patch_size=14, in_token_limit=4096, merge_kernel_size=(2, 2), **kwargs):
        super().__init__(**kwargs)
        self.patch_size, self.in_token_limit = patch_size, in_token_limit
        self.merge_kernel_size = list(merge_kernel_size)

    def grid(self, width, height):
        """Patches of a picture: (rows, columns)."""
        cells = (width // self.patch_size) * (height // self.patch_size)
        if cells > self.in_token_limit:
            scale = math.sqrt(self.in_token_limit / cells)
            width, height = int(width * scale), int(height * scale)
        rows, columns = (side * self.patch_size for side in self.merge_kernel_size)
        return (
            -(-height // rows) * self.merge_kernel_size[0],
            -(-width // columns) * self.merge_kernel_size[1],
        )

    def preprocess(self, images, return_tensors=None, **kwargs):
        images = images if isinstance(images, list) else [images]
        found, grids = [], []
        for image in images:
            rows, columns = self.grid(*image.size)
            side = self.patch_size
            pixels = numpy.asarray(image.convert("RGB").resize((columns * side, rows * side)))
            cells = pixels.reshape(rows, side, columns, side, 3).transpose(0, 2, 4, 1, 3)
            found.append(cells.reshape(-1, 3, side, side) / 127.5 - 1)
            grids.append([rows, columns])
        data = {
            "pixel_values": torch.tensor(numpy.concatenate(found), dtype=torch.float32),
            "image_grid_hws": torch.tensor(grids),
        }
        return BatchFeature(data=data)


class KimiVLProcessor(ProcessorMixin):
    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token = "<|media_pad|>"
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def __call__(self, images=None, text=None, return_tensors=None, **kwargs):
        texts = [text] if isinstance(text, str) else list(text or [])
        inputs = {}
        if images is not None:
            inputs = dict(self.image_processor.preprocess(images))
            sizes = iter((inputs["image_grid_hws"].prod(-1) // 4).tolist())
            texts = [
                "".join(
                    part + (self.image_token * next(sizes) if i < t.count(self.image_token) else "")
                    for i, part in enumerate(t.split(self.image_token))
                )
                for t in texts
            ]
        return BatchFeature(
            data={**self.tokenizer(texts), **inputs}, tensor_type=return_tensors
        )
'''


def kimi_vl(folder: Path, weights: bool = False) -> Path:
    """Kimi-VL: prompts only. Its processor comes with the model; this one is ours, in its shape."""
    folder.mkdir(parents=True, exist_ok=True)
    template = _chat(
        "<|im_user|>{{ message['role'] }}<|im_middle|>",
        "<|media_start|>image<|media_content|><|media_pad|><|media_end|>",
        "<|im_end|>",
        "<|im_assistant|>assistant<|im_middle|>",
    )
    specials = ["<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|media_start|>"]
    specials += ["<|media_content|>", "<|media_pad|>", "<|media_end|>"]
    tokens = tokenizer(specials, template)
    tokens.save_pretrained(folder)
    (folder / "processing_kimi_vl.py").write_text(_KIMI_CODE)
    code = {
        "AutoProcessor": "processing_kimi_vl.KimiVLProcessor",
        "AutoImageProcessor": "processing_kimi_vl.KimiVLImageProcessor",
    }
    processor = {
        "auto_map": code,
        "image_processor_type": "KimiVLImageProcessor",
        "processor_class": "KimiVLProcessor",
        "patch_size": 14,
        "in_token_limit": 4096,
        "merge_kernel_size": [2, 2],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    config = {
        "architectures": ["KimiVLForConditionalGeneration"],
        "model_type": "kimi_vl",
        "torch_dtype": "bfloat16",
        "media_placeholder_token_id": tokens.convert_tokens_to_ids("<|media_pad|>"),
        "vision_config": {"model_type": "moonvit", **_vision()},
        "text_config": {
            "model_type": "deepseek_v2",
            **TEXT,
            "vocab_size": len(tokens),
            "kv_lora_rank": 16,
            "q_lora_rank": None,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 16,
            "v_head_dim": 16,
            "n_routed_experts": 2,
            "first_k_dense_replace": 2,
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


_MINICPM_CODE = """
import math

import numpy
import torch
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin, Qwen2Config
from transformers.image_processing_utils import BaseImageProcessor


class MiniCPMVConfig(Qwen2Config):
    model_type = "minicpmv"


class MiniCPMVImageProcessor(BaseImageProcessor):
    model_input_names = ["pixel_values"]

    def __init__(self, max_slice_nums=9, scale_resolution=448, patch_size=14, **kwargs):
        super().__init__(**kwargs)
        self.max_slice_nums, self.scale_resolution = max_slice_nums, scale_resolution
        self.patch_size, self.image_feature_size = patch_size, 64
        self.im_start_token, self.im_end_token = "<image>", "</image>"
        self.slice_start_token, self.slice_end_token = "<slice>", "</slice>"
        self.im_id_start, self.im_id_end = "<image_id>", "</image_id>"
        self.unk_token, self.use_image_id, self.slice_mode = "<unk>", True, True
        self.version = 2.6

    def get_sliced_grid(self, image_size, max_slice_nums, nerver_split=False):
        width, height = image_size
        many = math.ceil(width * height / self.scale_resolution**2)
        most = min(many, max_slice_nums)
        if most <= 1:
            return None
        grids = [(m, n // m) for n in (most - 1, most, most + 1) if 1 < n <= max_slice_nums
                 for m in range(1, n + 1) if n % m == 0]
        return list(min(grids, key=lambda grid: abs(math.log(width / height * grid[1] / grid[0]))))

    def get_slice_image_placeholder(
        self, image_size, image_idx=0, max_slice_nums=None, use_image_id=None
    ):
        grid = self.get_sliced_grid(image_size, max_slice_nums or self.max_slice_nums)
        piece = self.unk_token * self.image_feature_size
        found = f"{self.im_start_token}{piece}{self.im_end_token}"
        if use_image_id is not False:
            found = f"{self.im_id_start}{image_idx}{self.im_id_end}{found}"
        if grid:
            one = f"{self.slice_start_token}{piece}{self.slice_end_token}"
            found += "\\n".join([one * grid[0]] * grid[1])
        return found

    def preprocess(self, images, do_pad=True, max_slice_nums=None, return_tensors=None, **kwargs):
        images = [images] if not isinstance(images, list) else images
        images = images if isinstance(images[0], list) else [images]
        pixels, sizes, targets = [], [], []
        side = self.scale_resolution
        for of_text in images:
            found, grids = [], []
            for image in of_text:
                grid = self.get_sliced_grid(image.size, max_slice_nums or self.max_slice_nums)
                for _ in range(1 + (grid[0] * grid[1] if grid else 0)):
                    cells = numpy.asarray(image.convert("RGB").resize((side, side)))
                    cells = torch.tensor(cells / 127.5 - 1, dtype=torch.float32).permute(2, 0, 1)
                    found.append(cells.reshape(3, self.patch_size, -1))
                    grids.append([side // self.patch_size] * 2)
            pixels.append(found)
            sizes.append([image.size for image in of_text])
            targets.append(torch.tensor(grids))
        return BatchFeature(
            data={"pixel_values": pixels, "image_sizes": sizes, "tgt_sizes": targets}
        )


class MiniCPMVProcessor(ProcessorMixin):
    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer)
"""


def minicpm_v(folder: Path, weights: bool = False) -> Path:
    """MiniCPM-V 2.6: prompts only. Its image processor comes with the model; this one is ours."""
    folder.mkdir(parents=True, exist_ok=True)
    specials = ["<unk>", "<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>"]
    tokens = tokenizer(
        specials,
        CHATML.replace("IMAGE", "(<image>./</image>)\n"),
        bos_token="<|im_start|>",
        unk_token="<unk>",
    )
    tokens.save_pretrained(folder)
    (folder / "code_minicpmv.py").write_text(_MINICPM_CODE)
    processor = {
        "auto_map": {
            "AutoProcessor": "code_minicpmv.MiniCPMVProcessor",
            "AutoImageProcessor": "code_minicpmv.MiniCPMVImageProcessor",
        },
        "image_processor_type": "MiniCPMVImageProcessor",
        "processor_class": "MiniCPMVProcessor",
        "max_slice_nums": 9,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    config = {
        "architectures": ["MiniCPMV"],
        "auto_map": {"AutoConfig": "code_minicpmv.MiniCPMVConfig"},
        "model_type": "minicpmv",
        "version": 2.6,
        "torch_dtype": "bfloat16",
        "query_num": 64,
        "image_size": 448,
        "patch_size": 14,
        **TEXT,
        "vocab_size": len(tokens),
        "vision_config": {"model_type": "siglip_vision_model", **_vision(image_size=980)},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


_PHI_CODE = """
import re

from transformers import BatchFeature, Phi3Config, Phi4MultimodalProcessor


class Phi4MMConfig(Phi3Config):
    model_type = "phi4mm"


class Phi4MMProcessor(Phi4MultimodalProcessor):
    # As the released one it takes nothing else: a budget has to reach the image processor before.
    def __call__(self, text, images=None, audios=None, return_tensors=None):
        texts = [text] if isinstance(text, str) else list(text)
        texts = [re.sub(r"<\\|image_\\d+\\|>", self.image_token, one) for one in texts]
        found = super().__call__(text=texts, images=images, return_tensors=return_tensors)
        data = {"input_image_embeds" if k == "image_pixel_values" else k: found[k] for k in found}
        return BatchFeature(data=data)
"""


def phi4_multimodal(folder: Path, weights: bool = False) -> Path:
    """Phi-4-multimodal as released: prompts only. Its processor comes with the model; this one is
    transformers' own, by the names that the model's code has."""
    import transformers
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    template = (
        "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokens = tokenizer(["<|user|>", "<|assistant|>", "<|end|>"], template)
    # vLLM knows the tokens of pictures and sounds by their numbers.
    described = json.loads(tokens.backend_tokenizer.to_str())
    for number, name in ((200_010, "<|endoftext10|>"), (200_011, "<|endoftext11|>")):
        described["model"]["vocab"][name] = number
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        described["added_tokens"].append({"id": number, "content": name, "special": True, **flags})
    tokens = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        eos_token="<|end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"},
    )
    tokens.chat_template = template
    transformers.Phi4MultimodalProcessor(
        image_processor=transformers.Phi4MultimodalImageProcessor(),
        audio_processor=transformers.Phi4MultimodalFeatureExtractor(),
        tokenizer=tokens,
        chat_template=template,
    ).save_pretrained(folder)
    (folder / "code_phi4mm.py").write_text(_PHI_CODE)
    file = folder / "processor_config.json"
    own = {"AutoProcessor": "code_phi4mm.Phi4MMProcessor"}
    told = json.loads(file.read_text()) | {"processor_class": "Phi4MMProcessor", "auto_map": own}
    file.write_text(json.dumps(told))
    config = {
        "architectures": ["Phi4MMForCausalLM"],
        "auto_map": {"AutoConfig": "code_phi4mm.Phi4MMConfig"},
        "model_type": "phi4mm",
        "torch_dtype": "bfloat16",
        **TEXT,
        "vocab_size": 200_064,
        "img_processor": None,
        "embd_layer": {"audio_embd_layer": {"compression_rate": 8}},
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder
