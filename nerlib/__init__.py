"""Named-entity experiments with BERT and POS embeddings: dataset, model and loop behind the notebooks."""
