"""Where the five modalities come from: the embedded world, or a folder of real data."""
