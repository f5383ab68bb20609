"""The words that cross a wire or a disk: plain records, one codec, one table of topics. No I/O, no clock, standard
library only.
"""
