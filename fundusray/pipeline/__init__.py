"""From rows of a prepared set to batches a model can take."""
