"""`lite-clip`: an ImageNet image tower and a sentence encoder from the package index, joined without a picture."""

NAME = "lite-clip"
VERSION = 2  # raise when the same recipe gives other weights
