"""From a model to a published field store."""
