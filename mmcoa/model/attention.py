"""Attention over heads: softmax(q k^T / sqrt(d) + mask) v.

torch's `scaled_dot_product_attention`, but for one case: in bf16 on a CPU its backward pass takes longer than in fp32, and five
times as long as the three steps one after another.
"""

import torch
import torch.nn.functional as F

LONGEST = 1024  # tokens up to which the matrix of weights, kept for the backward pass, is small beside the other activations


def attend(query, key, value, mask=None):
    """Queries [N, H, Q, D], keys and values [N, H, L, D] -> [N, H, Q, D].

    mask: what is added to the scores, float, broadcast to [N, H, Q, L], minus infinity for what must not be seen; or None.
    """
    mask = None if mask is None else mask.to(query.dtype)
    if not in_steps(query, key):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(scores if mask is None else scores + mask, dim=-1) @ value


def in_steps(query, key):
    """Whether the three steps are faster: bf16 on a CPU with gradients to come."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and torch.is_grad_enabled()
        and (query.requires_grad or key.requires_grad)
        and key.shape[-2] <= LONGEST
    )
