"""Quality controls: what must not be trained on, found cheaply; each has a switch `quality.*`.

screen_seeds(seeds, config)     seeds that leak or nearly repeat, as drops      screening.py
  Decontaminator.leak(seed)       the evaluation row that a seed repeats        contamination.py
  NearDuplicates                  the seeds so far, on disk                     near_duplicates.py
barred(seed, responses, …)      which responses may stand on which side         bars.py
  response_fault(text, …)         loops, leaked tokens, refusals, wrong language,
                                  a last step that contradicts the answer       hygiene.py
  continuation_fault(response, …) continuations that teach nothing              gate.py
  gate_yield(fates)               what passes, by the ratio that was kept       gate.py
  blind_result(seed, verdicts)    what is solved without its image              blind.py
  Findings                        what is counted of both                       findings.py
  distinct_responses(texts)       near-copies among responses                   distinct.py
suspicion(seed, verdicts, …)    truths that the samples contradict              suspects.py

All are pure but for the two that hold a state, which depends on the order of the input alone.
"""

from mmpr_builder.quality.contamination import Decontaminator, Leak, index_evaluation
from mmpr_builder.quality.controls import Findings
from mmpr_builder.quality.filters import Bars, BlindResult, barred, blind_result, least_samples
from mmpr_builder.quality.gate import (
    Fault,
    GateYield,
    continuation_fault,
    distinct_responses,
    find_loop,
    gate_yield,
    misses_image,
)
from mmpr_builder.quality.hygiene import NEVER_REJECTED, contradiction, response_fault
from mmpr_builder.quality.near_duplicates import NearDuplicates, print_of
from mmpr_builder.quality.screening import evaluation_sets, fingerprint, screen_seeds
from mmpr_builder.quality.suspects import SUSPECT_TRUTH, suspicion

__all__ = [
    "NEVER_REJECTED",
    "SUSPECT_TRUTH",
    "Bars",
    "BlindResult",
    "Decontaminator",
    "Fault",
    "Findings",
    "GateYield",
    "Leak",
    "NearDuplicates",
    "barred",
    "blind_result",
    "continuation_fault",
    "contradiction",
    "distinct_responses",
    "evaluation_sets",
    "find_loop",
    "fingerprint",
    "gate_yield",
    "index_evaluation",
    "least_samples",
    "misses_image",
    "print_of",
    "response_fault",
    "screen_seeds",
    "suspicion",
]
