"""Cut CLIP's tokenizer to its first 8,192 entries: `python -m mmcoa.assets.build_tokenizer`.

The full vocabulary (49,408 entries) would make up 9 tenths of a small model's weights. Entries come in the order in
which byte-pair encoding learned them, so the first 7,678 merges are the most frequent ones; rarer words fall into
more pieces. Reads the vocabulary inside the open_clip wheel, writes a Hugging Face tokenizer into `openmoji-clip/`.
"""

import gzip
from pathlib import Path

import open_clip.tokenizer
from transformers import CLIPTokenizerFast

SIZE = 8192
FOLDER = Path(__file__).parent / "openmoji-clip"


def cut_vocabulary(size=SIZE):
    """(vocabulary: entry -> id, merges: list of pairs) of CLIP's tokenizer, `size` entries in all."""
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf8") as file:
        lines = file.read().split("\n")
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    start_end = ["<|startoftext|>", "<|endoftext|>"]
    merges = [tuple(line.split()) for line in lines[1 : 1 + size - 2 * len(letters) - len(start_end)]]
    entries = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + start_end
    return {entry: i for i, entry in enumerate(entries)}, merges


def main():
    vocabulary, merges = cut_vocabulary()
    tokenizer = CLIPTokenizerFast(vocab=vocabulary, merges=merges, model_max_length=32)
    FOLDER.mkdir(exist_ok=True)
    tokenizer.save_pretrained(FOLDER)


if __name__ == "__main__":
    main()
