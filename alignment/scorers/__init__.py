"""Who says what an answer is worth, besides a reward model on the weights that a run has anyway."""
