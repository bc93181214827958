"""CLIP as a differentiable map from pixels and strings to unit embeddings: towers, loading, export."""
