"""What made the small pretrained models and the tokenizer, and these files themselves.

glyphs             digits in printed fonts, distorted
vision             pretrains the vision transformer on them: vit_digits.safetensors
language           on reviews: tokenizer.json, distilbert.safetensors and big_bird.safetensors
"""

from pathlib import Path

FOLDER = Path(__file__).parent
