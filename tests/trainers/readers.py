"""Reads an export with a trainer's own code, in that trainer's environment:

    python readers.py NAME DEST MODEL OUTPUT

OUTPUT gets a JSON line for each row: question (with an `<image>` where an image stands), chosen,
rejected, images (SHA-256 of size and RGB pixels). Nothing of mmpr_builder is imported but what a
trainer itself imports (the reward).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def pixels(image: Any) -> str:
    from PIL import Image

    opened = image if isinstance(image, Image.Image) else Image.open(image)
    rgb = opened.convert("RGB")
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()


def row(question: str, chosen: str, rejected: str, images: list[Any]) -> Row:
    shown = [pixels(image) for image in images]
    return {"question": question, "chosen": chosen, "rejected": rejected, "images": shown}


def _said(content: Any) -> str:
    """The text of typed parts, with `<image>` where an image stands."""
    if isinstance(content, str):
        return content
    return "".join("<image>" if p["type"] == "image" else p["text"] for p in content)


def datasets_parquet(dest: Path, model: str) -> Iterator[Row]:
    """Any version of `datasets`, with images decoded by the file's own metadata."""
    from datasets import load_dataset

    found = (*dest.glob("pairs/*.parquet"), *dest.glob("train/*.parquet"), *dest.glob("*.parquet"))
    files = sorted(map(str, found))
    for one in load_dataset("parquet", data_files=files, split="train"):
        chosen, rejected = one.get("chosen") or one.get("completion"), one.get("rejected")
        texts = [_said(side[0]["content"]) if side else "" for side in (chosen, rejected)]
        texts[1] = str(one.get("label", texts[1]))
        yield row(_said(one["prompt"][-1]["content"]), *texts, one["images"])


def trl(dest: Path, model: str) -> Iterator[Row]:
    """The collators of TRL: what is tokenized is decoded again."""
    from datasets import load_dataset
    from transformers import AutoProcessor
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    processor = AutoProcessor.from_pretrained(model)
    collate = DataCollatorForVisionPreference(processor)
    files = sorted(map(str, (dest / "pairs").glob("*.parquet")))
    for one in load_dataset("parquet", data_files=files, split="train"):
        images, texts = one["images"], (_said(one["chosen"][0]["content"]),)
        texts += (_said(one["rejected"][0]["content"]),)
        question = _said(one["prompt"][-1]["content"])
        batch = collate([dict(one)])
        decoded = _sides(processor, batch, len(images))
        for side, (prompt, completion) in zip(texts, decoded, strict=True):
            assert question.replace("<image>", "") in prompt, (question, prompt)
            assert completion.strip() == side.strip()
        yield row(question, *texts, images)


def trl_stage(dest: Path, model: str) -> Iterator[Row]:
    """The collators of SFTTrainer and KTOTrainer, and what GRPOTrainer makes of a prompt."""
    from datasets import load_dataset
    from transformers import AutoProcessor
    from trl.data_utils import prepare_multimodal_messages
    from trl.trainer.kto_trainer import DataCollatorForVisionUnpairedPreference
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    processor = AutoProcessor.from_pretrained(model)
    sft = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    kto = DataCollatorForVisionUnpairedPreference(processor)
    files = str(dest / "train" / "*.parquet")
    for one in load_dataset("parquet", data_files=files, split="train"):
        question, images = _said(one["prompt"][-1]["content"]), one["images"]
        said = _said(one["completion"][0]["content"]) if "completion" in one else ""
        if said:
            batch = dict((kto if "label" in one else sft)([dict(one)]))
            if "label" not in one:
                batch["completion_mask"] = batch["labels"] != -100
            ((prompt, completion),) = _sides(processor, batch, len(images))
            assert question.replace("<image>", "") in prompt
            assert completion.strip() == said.strip()
        else:
            (turn,) = prepare_multimodal_messages(one["prompt"], images=images)
            found = [p["image"] for p in turn["content"] if p["type"] == "image"]
            assert list(map(pixels, found)) == list(map(pixels, images))
        yield row(question, said, str(one.get("label", "")), images)


def _sides(processor: Any, batch: Any, images: int) -> Iterator[tuple[str, str]]:
    """(prompt, completion) of each sequence as text; its image tokens are counted."""
    tokenizer = processor.tokenizer
    image_id = tokenizer.convert_tokens_to_ids(str(processor.image_token))
    expected = None
    for ids, mask, said in zip(
        batch["input_ids"].tolist(),
        batch["attention_mask"].tolist(),
        batch["completion_mask"].tolist(),
        strict=True,
    ):
        kept = [(i, s) for i, m, s in zip(ids, mask, said, strict=True) if m]
        shown = sum(i == image_id for i, _ in kept)
        expected = shown if expected is None else expected
        assert shown == expected
        assert bool(shown) == bool(images)
        assert not images or shown % images == 0
        texts = [[i for i, s in kept if s == part and i != image_id] for part in (0, 1)]
        prompt, completion = (tokenizer.decode(t, skip_special_tokens=True) for t in texts)
        yield prompt, completion


def llama_factory(dest: Path, model: str) -> Iterator[Row]:
    """Its parser, converter and the check of its multimodal plug-in."""
    _without_audio()
    from llamafactory.data.loader import _load_single_dataset
    from llamafactory.data.mm_plugin import get_mm_plugin
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    names = list(json.loads((dest / "dataset_info.json").read_text()))
    data = DataArguments(dataset_dir=str(dest), media_dir=str(dest), dataset=",".join(names))
    plugin = get_mm_plugin("llava", image_token="<image>")
    models = ModelArguments(model_name_or_path=model)
    for attributes in get_dataset_list(names, str(dest)):
        training = Seq2SeqTrainingArguments(output_dir="unused", report_to=[])
        for one in _load_single_dataset(attributes, models, data, training):
            prompt, images = one["_prompt"], one["_images"] or []
            assert [turn["role"] for turn in prompt] == ["user"]
            for response in one["_response"]:
                plugin._validate_messages([*prompt, response], images, [], [])
            sides = [response["content"] for response in one["_response"]]
            yield row(prompt[0]["content"], *sides, images)


def _without_audio() -> None:
    """Its plug-in imports torchaudio, of which not every machine has a build for its torch."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        name = "torchaudio"
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)


def ms_swift(dest: Path, model: str) -> Iterator[Row]:
    """Its dataset loader and what its template does with tags before it encodes."""
    from swift.dataset import load_dataset
    from swift.template import Template
    from swift.template.template_inputs import TemplateInputs

    for file in sorted(dest.glob("pairs*.jsonl")):
        loaded, _ = load_dataset([str(file)], split_dataset_ratio=0, strict=True, shuffle=False)
        for one in loaded:
            inputs = TemplateInputs.from_dict(one)
            sides = []
            for side in (inputs.chosen, inputs.rejected):
                Template._replace_image_tags(side)
                Template._add_default_tags(side)
                sides.append(side.messages[-1]["content"])
                question = side.messages[-2]["content"]
            paths = [image["path"] for image in inputs.chosen.images]
            assert paths == [image["path"] for image in inputs.rejected.images]
            yield row(question, *sides, paths)


def verl(dest: Path, model: str) -> Iterator[Row]:
    """RLHFDataset, and the reward loaded as its trainer loads it."""
    from omegaconf import OmegaConf
    from transformers import AutoProcessor
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.utils.dataset.rl_dataset import RLHFDataset

    reward = Path(os.environ["MMPR_BUILDER"]) / "mmpr_builder/export/verl_reward.py"
    named = {"path": str(reward), "name": "compute_score"}
    compute = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": named}}))
    about = {"style": "boxed", "answers": [r"\frac{1}{2}"], "choices": [], "scorer": "auto"}
    assert compute("x", r"so \boxed{\dfrac{2}{4}}", r"\frac{1}{2}", about) == 1.0
    processor = AutoProcessor.from_pretrained(model)
    config = OmegaConf.create(
        {"max_prompt_length": 4096, "filter_overlong_prompts": False, "cache_dir": str(dest)}
    )
    data = RLHFDataset(str(dest / "train.parquet"), processor.tokenizer, config, processor)
    for index in range(len(data)):
        one = data[index]
        (message,) = one["raw_prompt"]
        images = (
            [p["image"] for p in message["content"] if p["type"] == "image"]
            if isinstance(message["content"], list)
            else []
        )
        truth = one["reward_model"]["ground_truth"]
        marks = {"final_answer": f"Final answer: {truth}", "boxed": rf"\boxed{{{truth}}}"}
        right = compute(
            data_source=one["data_source"],
            solution_str=f"So it is.\n{marks[one['extra_info']['style']]}",
            ground_truth=truth,
            extra_info=one["extra_info"],
        )
        assert right == 1.0, one["extra_info"]
        yield row(_said(message["content"]), "", "", images)


def internvl(dest: Path, model: str) -> Iterator[Row]:
    """`LazySupervisedDataset` and `build_datasets` out of a checkout of OpenGVLab/InternVL."""
    import torch
    from torch.utils.data import ConcatDataset

    path = "internvl_chat/internvl/train/internvl_chat_mpo.py"
    source = ast.parse((Path(os.environ["INTERNVL"]) / path).read_text(encoding="utf-8"))
    wanted = ("LazySupervisedDataset", "build_datasets")
    kept = [n for n in source.body if getattr(n, "name", "") in wanted]
    plain = [n for n in source.body if isinstance(n, ast.Import | ast.ImportFrom)]
    plain = [n for n in plain if _top(n) in _PLAIN]
    shown: list[Any] = []

    def preprocess(_: str, sources: Any, *rest: Any, num_image: int = 1, **how: Any) -> Any:
        (question, answer), marks = (turn["value"] for turn in sources[0]), "<image>"
        if not how.get("text_only"):
            assert min(question.count(marks), num_image) == num_image
        ids = torch.tensor([list(f"{question}\0{answer}".encode())])
        return {"input_ids": ids, "labels": ids, "attention_mask": ids}

    def transform(**_: Any) -> Any:
        def tensor(image: Any) -> Any:
            shown.append(image)
            return torch.zeros(3, 2, 2)

        return tensor

    world: dict[str, Any] = {
        "ConcatDataset": ConcatDataset,
        "build_transform": transform,
        "dynamic_preprocess": lambda image, **_: [image],
        "preprocess_internvl2_5": preprocess,
        "json": json,
        "logger": types.SimpleNamespace(info=lambda *_: None),
        "UnidentifiedImageError": OSError,
    }
    module = ast.Module([*plain, *kept], [])
    exec(compile(module, path, "exec"), world)  # noqa: S102
    world["random"].randint = None  # Another row in the place of this one ends the run.
    arguments = types.SimpleNamespace(
        meta_path=str(dest / "meta.json"),
        conv_style="internvl2_5",
        force_image_size=2,
        pad2square=False,
        use_data_resampling=False,
    )
    models = types.SimpleNamespace(num_image_token=1)
    data = world["build_datasets"](arguments, None, None, models, dynamic_image_size=False)
    for index in range(len(data)):
        shown.clear()
        found = data[index]
        texts = [bytes(found[f"{side}_input_ids"].tolist()).decode() for side in _SIDES]
        (question, chosen), (again, rejected) = (text.split("\0") for text in texts)
        assert question == again
        images = [] if not found["image_flags"].any() else list(shown)
        yield row(question, chosen, rejected, images)


_SIDES = ("chosen", "rejected")
_PLAIN = ("copy", "dataclasses", "json", "math", "numpy", "os", "PIL", "random", "torch",
          "traceback", "transformers", "typing")  # fmt: skip


def _top(node: ast.Import | ast.ImportFrom) -> str:
    name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
    return (name or "").split(".")[0]


def nemo_rl(dest: Path, model: str) -> Iterator[Row]:
    """`MMPRPreferenceDataset` out of a checkout of NVIDIA-NeMo/RL at pull request 3345."""

    class Raw:
        def split_train_validation(self, *_: Any) -> None:
            pass

    for name, things in (
        ("nemo_rl.data.datasets.raw_dataset", {"RawDataset": Raw}),
        ("nemo_rl.data.interfaces", {"TaskDataPreProcessFnCallable": Any}),
    ):
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(things)
    path = Path(os.environ["NEMO_RL"]) / "nemo_rl/data/datasets/preference_datasets/mmpr.py"
    world: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), world)  # noqa: S102
    data = world["MMPRPreferenceDataset"](str(dest / "recipe/meta.json"), cache_dir=str(dest))
    for one in data.dataset:
        told = data.preprocessor(one)
        *system, user = told["context"]
        assert [turn["content"] for turn in system] == [""]
        empty = "<think></think>\n\n"
        sides = [c["completion"][0]["content"] for c in told["completions"]]
        assert all(side.startswith(empty) for side in sides)
        images = [part["image"] for part in user["content"] if part["type"] == "image"]
        text = _said(user["content"])
        yield row(text, *(side.removeprefix(empty) for side in sides), images)


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    "datasets": datasets_parquet,
    "trl": trl,
    "trl-stage": trl_stage,
    "llama-factory": llama_factory,
    "ms-swift": ms_swift,
    "verl": verl,
    "internvl": internvl,
    "nemo-rl": nemo_rl,
}

if __name__ == "__main__":
    reader, folder, model_folder, output = sys.argv[1:]
    with open(output, "w", encoding="utf-8") as lines:
        for found_row in READERS[reader](Path(folder), model_folder):
            lines.write(json.dumps(found_row) + "\n")
