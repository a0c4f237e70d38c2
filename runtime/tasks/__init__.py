"""Tasks that a model is fine-tuned on: GLUE and SQuAD, as data, features and scores."""
