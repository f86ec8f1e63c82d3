#!/usr/bin/env python3
"""Writes a Llama of two layers with random weights and a byte-level tokenizer of its own: tiny_model.py DIR

Needs torch, transformers and tokenizers; fetches nothing. What it writes makes no sense, ends by chance, and splits characters over
tokens: that is what a meter must cope with.
"""
import json
import pathlib
import sys

import tokenizers
import torch
import transformers

VOCABULARY = 640
MARKS = ["<bos>", "<eos>", "<user>", "<assistant>", "<system>"]
LINES = """A weir measures a river without stopping it. The keeper reads the gauge in the morning and again at night.
Rain in the hills shows at the mill a day later, and the miller opens his gate before the water asks him to.
What came down the river was counted once, and what was counted once was not counted again at the bridge.
Wie hoch ist das Wasser heute? Höher als gestern, sagt der Müller; morgen fällt es. Straße, Größe, Übung.
El río baja crecido en primavera y el molinero cuenta los troncos que pasan. L'été, la rivière est presque à sec.
川の水は春に増える。 Река поднимается весной. 강물이 불어난다. 🌧🌊🛶 "yes" {"a": [1, 2, 3]} 3.14159 == x != y -> z;"""

# Each turn's mark, then its text (content may be a string or a list of parts), then the answer's mark.
TEMPLATE = """<bos>{%- for turn in messages -%}<{{ turn.role }}>
{%- if turn.content is string -%}{{ turn.content }}{%- else -%}{%- for part in turn.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}
{%- endfor -%}{%- if add_generation_prompt -%}<assistant>{%- endif -%}"""


def write_tokenizer(out):
    tok = tokenizers.ByteLevelBPETokenizer()
    tok.train_from_iterator(LINES.split("\n") * 20, vocab_size=VOCABULARY, min_frequency=2, special_tokens=MARKS, show_progress=False)
    tok.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": MARKS[0], "eos_token": MARKS[1], "pad_token": MARKS[1],
        "model_max_length": 32768, "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE}))


def write_model(out):
    torch.manual_seed(20)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, max_position_embeddings=32768, bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.25)  # wide enough that greedy answers do not all repeat one token
    model.save_pretrained(out)


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    write_model(folder)
