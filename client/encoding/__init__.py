"""The coordinate encoder in numpy: vectors at any longitude and latitude, without torch.

Start with `coordinate_encoder.load_encoder`, which reads an `Encoder` from a store.
"""
