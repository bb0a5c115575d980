"""The frames corpus: bilingual text with known meaning, generated from a grammar of our own.

A meaning is a frame (an intent of a domain), one value per slot, and a polarity (affirmed or denied). Each
frame is rendered by templates in Chinese and English: the similarity of two texts is known by construction.
Facts, and most names, are invented; nothing here is advice about money, health or law.
"""
