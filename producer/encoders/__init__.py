"""One encoder per modality, all into one space."""
