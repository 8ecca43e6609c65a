"""The sub-commands of `unigeo`."""
