"""Contrastive training of the encoders, which can be resumed at any step.

Start with `train.train`, which makes a model folder. `loop` runs the steps, `step` computes the
gradients of one batch, `loss` is the contrastive loss, and `dataset` prepares the samples.
"""
