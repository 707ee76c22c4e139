"""What a finding of lint means for training, and what to do about it."""

from __future__ import annotations

REMEDIES: dict[str, str] = {
    "placeholder_mismatch": "Trainers stop, or take another row in silence: leave these rows out"
    " (mmpr export does), and mend the question's <image> marks in the seeds.",
    "placeholder_in_prompt": "The loader takes it for an image: leave the row out (mmpr export"
    " does), or word the question without it.",
    "placeholder_in_response": "Loaders count or delete it: leave the row out (mmpr export does).",
    "identical_sides": "The loss of such a pair is constant: leave it out (mmpr export does).",
    "empty_text": "Nothing to learn from, and some trainers stop: leave it out (mmpr export does).",
    "odd_prompt": "Only single questions can be exported: make it one turn of the user.",
    "odd_response": "Only single responses can be exported: make it one turn of the assistant.",
    "text_only": "The trainer passes over rows without an image: mmpr export leaves them out.",
    "multi_image": "The trainer passes over rows with several images: mmpr export leaves them out.",
    "image_missing": "Put the file back, or export again: the trainer stops or takes another row.",
    "image_unreadable": "Replace or remove it and build or export again: the trainer stops at it.",
    "image_too_large": "Shrink it in the seeds and build again: decoders refuse it.",
    "image_bad_aspect": "Crop it in the seeds and build again: processors refuse such ratios.",
    "image_large": "Memory may not do: shrink it in the seeds, or raise --max-pixels.",
    "image_refused": "The model's own processor raises at this size: change or remove the image.",
    "too_long": "It is cut or dropped in training: lower sampling.max_tokens, drop the rows, or"
    " train with a longer context.",
    "special_token": "It would be read as a mark of the chat template: leave the row out by"
    " pairing.reject_list, and pair again.",
    "mixed_schema": "Loaders refuse such a folder: mmpr export OUT DEST --to trl gives one schema.",
    "bad_json": "The trainer stops at this line: export again.",
    "missing_field": "The trainer stops at this row: export again.",
    "bad_recipe": "The trainer does not find or accept it: export again, with --mount where it"
    " sees other paths.",
}
