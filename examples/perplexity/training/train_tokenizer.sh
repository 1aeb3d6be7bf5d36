#!/bin/sh
# Trains the tokenizer on the cleaned training books, in the manner of Llama 2:
# byte-pair encoding with byte fallback, 2048 pieces.
#
#     ./train_tokenizer.sh DATA
#
# reads DATA/train/*.txt and writes DATA/tokenizer.model. It needs spm_train
# (Debian: sentencepiece).
#
# In so small a vocabulary rare characters fall out and become bytes. The ones
# named by --required_chars must not: without it some of the digits go. Every
# one of them must occur in the books, or spm_train ends with an error; that
# takes only a few books.
set -eu
cd "${1:?usage: ./train_tokenizer.sh DATA}"

spm_train \
    --input="$(echo train/*.txt | tr ' ' ',')" \
    --model_prefix=tokenizer \
    --model_type=bpe \
    --vocab_size=2048 \
    --byte_fallback=true \
    --character_coverage=0.9995 \
    --required_chars="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,;:!?'\"()-&*/" \
    --split_digits=true \
    --normalization_rule_name=identity \
    --remove_extra_whitespaces=false \
    --add_dummy_prefix=true \
    --allow_whitespace_only_pieces=true \
    --max_sentence_length=8192 \
    --max_sentencepiece_length=16 \
    --unk_id=0 --bos_id=1 --eos_id=2 --pad_id=-1
