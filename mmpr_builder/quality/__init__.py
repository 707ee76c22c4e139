"""Quality controls: what must not be trained on, found cheaply; each has a switch `quality.*`.

screen_seeds(seeds, config)     seeds that leak or nearly repeat, as drops      screening.py
  Decontaminator.leak(seed)       the evaluation row that a seed repeats        contamination.py
filtered(seed, responses, …)    which responses may stand on which side         filters.py
  response_fault(text, …)         loops, leaked tokens, refusals, wrong language,
                                  a last step that contradicts the answer       hygiene.py
  continuation_fault(response, …) continuations that teach nothing              hygiene.py
  distinct_responses(texts)       near-copies among responses                   filters.py
  Findings                        sums of what is found, for run.json           filters.py
suspicion, blind_result         what the samples say against their seed         suspects.py
controls_of(run)                each control with its figures                   controls.py

All are pure but for the two that hold a state, which depends on the order of the input alone.
"""
