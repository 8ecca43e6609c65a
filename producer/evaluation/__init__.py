"""How well the modalities find each other."""
