"""Self-checks: truths against themselves, the scorer against labels, samples against truths.

check_truth(seed, judge)             why no truth of a seed can be used, or None
screen(seeds, config)                such seeds as drops, before any sampling
check_seed(seed, judge, …)           everything that is wrong with its truths
audit_seeds(seeds, config, …)        the same for all seeds, counted by source
read_cases, judge_case, confusion    a labelled file against the scorer
suspect_truths(rollouts, judge)      seeds whose samples agree on another answer
"""
