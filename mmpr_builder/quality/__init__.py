"""Quality controls: what must not be trained on, found cheaply; each has a switch `quality.*`.

screen_seeds(seeds, config)     seeds that leak or nearly repeat, as drops      screening.py
  Decontaminator.leak(seed)       the evaluation row that a seed repeats        contamination.py
filtered(seed, responses, …)    which responses may stand on which side         filters.py
  response_fault(text, …)         loops, leaked tokens, refusals, wrong language,
                                  a last step that contradicts the answer       hygiene.py
  continuation_fault(response, …) continuations that teach nothing              gate.py
  distinct_responses(texts)       near-copies among responses                   gate.py
  Findings                        sums of what is found, for run.json           filters.py
suspicion, blind_result         what the samples say against their seed         suspects.py
controls_of(run)                each control with its figures                   controls.py

All are pure but for the two that hold a state, which depends on the order of the input alone.
"""

from mmpr_builder.quality.contamination import Decontaminator, index_evaluation
from mmpr_builder.quality.filters import Findings
from mmpr_builder.quality.gate import (
    continuation_fault,
    distinct_responses,
    find_loop,
    misses_image,
)
from mmpr_builder.quality.hygiene import contradiction, response_fault
from mmpr_builder.quality.screening import fingerprint, screen_seeds
from mmpr_builder.quality.suspects import blind_result, least_samples

__all__ = [
    "Decontaminator",
    "Findings",
    "blind_result",
    "continuation_fault",
    "contradiction",
    "distinct_responses",
    "find_loop",
    "fingerprint",
    "index_evaluation",
    "least_samples",
    "misses_image",
    "response_fault",
    "screen_seeds",
]
