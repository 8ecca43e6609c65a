"""The encoders of all modalities, which map into one space of unit vectors.

Start with `model.UniGeoCLIP` and `saved_models.load_model`. `model_settings.ModelSettings`
describes a model, `presets` has ready ones, and `folded` is the coordinate encoder as
rasterization uses it.
"""
