"""Pretraining on masked tokens: from text and a backbone to a folder that transformers loads."""
