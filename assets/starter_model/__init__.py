"""The starter model: a small decoder of our own, so that everything can be tried on a laptop.

It answers questions about an invented world of vaccine research, each question in any of four styles
(concise with a citation, verbose, hedging, hype), so that people can have real preferences about its
answers and an alignment run has something real to learn.

    world.py      the invented world: vaccines, topics, what is on record
    grammar.py    how questions, answers and documents are phrased; one grammar writes them and checks them
    corpus.py     the training text, the unseen questions and the sample documents (*.jsonl)
    checker.py    the rule checker: style, form and fact of an answer, judged apart; no torch
    tokenizer.py  the byte-level BPE and the chat template
    train.py      both stages from nothing: documents -> base/, questions and answers -> chat/
    measure.py    samples from a model folder and holds the answers against the bars
    card.py       the model cards

`python -m assets.starter_model.train` remakes base/ and chat/.
"""
