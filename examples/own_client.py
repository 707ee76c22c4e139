"""The whole method with an OpenAI client of your own: seeds in, pairs for training out.

python examples/own_client.py SEEDS http://127.0.0.1:8000/v1 MODEL OUT
"""

import sys

from openai import OpenAI

import mmpr_builder as mb


def main(seeds: str, url: str, model: str, out: str) -> None:
    ask = OpenAI(base_url=url, api_key="none").chat.completions.create
    rollouts, pairs, verdicts = [], [], {}
    for number, seed in enumerate(mb.read_seeds(seeds)):
        if isinstance(seed, mb.Drop):
            print(f"dropped: {seed.item_id}: {seed.reason}")
            continue
        template = mb.load_template("final_answer_en" if seed.has_truth else "open_en")
        request = mb.chat_request(seed, template)
        responses = mb.read_responses(ask(model=model, n=8, temperature=1.0, **request))
        if not seed.has_truth:  # DropoutNTP: go on from half of each response, without the image.
            for i, response in enumerate(responses):
                more = mb.continuation_request(seed, response, keep=0.5, template=template)
                continued = mb.read_responses(ask(model=model, temperature=1.0, **more))
                responses[i] = mb.join(response, continued[0], keep=0.5)
        rollouts.append(mb.make_rollout(seed, template, responses, model=model, index=number))
        verdicts[seed.id], found, drops = mb.judge_rollout(rollouts[-1])
        pairs += found
        print(f"{seed.id}: {len(found)} pairs", *(drop.reason for drop in drops))
    mb.write_rollouts(rollouts, out)
    mb.write_pairs(pairs, out, rollouts, verdicts=verdicts)
    print(mb.load_pairs(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
