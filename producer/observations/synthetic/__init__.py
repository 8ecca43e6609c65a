"""The embedded world: synthetic observations of the 48 states, computed without any data file.

Start with `world.World`. `latent_fields` computes the hidden truth at each point, and `images` and
`captions` render what each modality shows of it.
"""
