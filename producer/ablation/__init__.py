"""What each choice is worth: the same training with one thing changed, over several seeds."""
