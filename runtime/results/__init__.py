"""The comparison of BERT, AutoBERT-Zero and a searched backbone, trained alike: `make results`."""
