"""Search by words: one tokenizer, BM25 weights, synonyms and spelling for every engine."""
