"""The contrastive loss over pairs of modalities, for one process or many.

Start with `contrast.contrastive_loss`. `contrast_settings` selects pairs, negatives and positives;
`tiled_loss` and `tile_softmax` compute the loss in memory linear in the batch.
"""
