"""Contrastive training of the encoders, resumable at any step."""
