"""One training loop, what makes it fast, its checkpoints, and the published runs."""
