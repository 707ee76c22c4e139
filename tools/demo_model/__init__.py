"""The trainer of the demo model (`make demo-model`); the wheel ships only what it makes.

responses     how careful and hasty writers answer: the habits that the model imitates
descriptions  what open questions get: true descriptions, and habits in place of looking
facts         which facts of a description are wrong
tokens        the tokenizer and the chat template
network       the model's size, its processor, the folder it is saved in
corpus        training rows
batches       rows beside each other, by length
train         `python -m tools.demo_model.train --out DIR`
measure       `python -m tools.demo_model.measure`: what the model can do, in figures
card          the model card that states them
"""
