"""Adversarial fine-tuning and pre-training: one loop, and what it reads and writes."""
