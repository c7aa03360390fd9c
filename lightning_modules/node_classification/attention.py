"""Attention of centres over their rows, all heads at once: compiled loops on CPU, torch elsewhere."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from lightning_modules.node_classification.dense import dropout_mask, narrow_matmul
from lightning_modules.numba_import import numba_fault
from lightning_modules.segments import SegmentIndex, segment_softmax

PIECE = 2**24
"""Numbers of the largest tensor that is made while rows are gone through in pieces: 64 MiB of float32."""


def uses_kernels(x: Tensor) -> bool:
    """Whether attention over ``x`` runs in compiled loops: on CPU, where numba works."""
    return x.device.type == "cpu" and not numba_fault()


def _forward_torch(
    centre_scores: Tensor,
    item_scores: Tensor,
    items: Tensor,
    keep: Tensor | None,
    index: SegmentIndex,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    scores = index.centres(centre_scores).add_(index.items(item_scores))
    alpha = segment_softmax(F.leaky_relu(scores, negative_slope), index)
    return index.weighted_sum(alpha if keep is None else alpha * keep, items), alpha


def _backward_torch(
    grad: Tensor,
    centre_scores: Tensor,
    item_scores: Tensor,
    items: Tensor,
    alpha: Tensor,
    keep: Tensor | None,
    out: Tensor,
    index: SegmentIndex,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    d_alpha = _row_products(grad, items, index)  # [R, H]
    if keep is not None:
        d_alpha.mul_(keep)
    d_score = d_alpha.sub_(index.centres(_per_head_dot(grad, out))).mul_(alpha)
    scores = index.centres(centre_scores).add_(index.items(item_scores))
    d_score = torch.where(scores > 0, d_score, d_score * negative_slope)
    weights = alpha if keep is None else alpha * keep
    return index.sum(d_score), index.sum_by_item(d_score), index.weighted_sum_by_item(weights, grad)


def _row_products(centres: Tensor, items: Tensor, index: SegmentIndex) -> Tensor:
    """Inner products of each row's centre and item, ``[N, H, D], [M, H, D] -> [R, H]``.

    In pieces: the ends of all rows would be ``R * H * D`` numbers twice, 537 MB each for two graphs of PPI
    and 1,024 channels.
    """
    step = max(PIECE // max(items.size(1) * items.size(2), 1), 1)
    if index.num_rows <= step:
        return _per_head_dot(index.centres(centres), index.items(items))
    out = items.new_empty(index.num_rows, items.size(1))
    col = index.count if index.col is None else index.col
    for piece, row, item in zip(out.split(step), index.row.split(step), col.split(step), strict=True):
        piece.copy_(_per_head_dot(centres.index_select(0, row), items.index_select(0, item)))
    return out


def _per_head_dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of heads, ``[R, H, D], [R, H, D] -> [R, H]``.

    Summed by a matrix-vector product, which on CPU saves a third of the time for small D
    (``python -m benchmarks.operations``).
    """
    products = a * b
    width = products.size(2)
    return torch.mv(products.view(-1, width), products.new_ones(width)).view(products.shape[:2])


def _forward_kernels(
    centre_scores: Tensor,
    item_scores: Tensor,
    items: Tensor,
    keep: Tensor | None,
    index: SegmentIndex,
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    # numba is slow to import: only a run that trains on CPU pays for it.
    from lightning_modules.node_classification import attention_kernels as kernels

    ptr, col = index.ptr.numpy(), (index.count if index.col is None else index.col).numpy()
    alpha = items.new_empty(index.num_rows, items.size(1))
    scores = (centre_scores.numpy(), item_scores.numpy())
    kernels.shifted_scores(*scores, ptr, col, alpha.numpy().dtype.type(negative_slope), alpha.numpy())
    alpha.exp_()
    out = items.new_zeros(index.num_groups, items.size(1), items.size(2))
    kernels.normalise_and_sum(alpha.numpy(), _mask(keep, alpha), items.numpy(), ptr, col, out.numpy())
    return out, alpha


def _backward_kernels(
    grad: Tensor,
    centre_scores: Tensor,
    item_scores: Tensor,
    items: Tensor,
    alpha: Tensor,
    keep: Tensor | None,
    out: Tensor,
    index: SegmentIndex,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    from lightning_modules.node_classification import attention_kernels as kernels

    grads = torch.zeros_like(centre_scores), torch.zeros_like(item_scores), torch.zeros_like(items)
    col = index.count if index.col is None else index.col
    kernels.attention_backward(
        *(t.numpy() for t in (grad, centre_scores, item_scores, items, alpha)),
        _mask(keep, alpha),
        *(t.numpy() for t in (out, index.ptr, col)),
        alpha.numpy().dtype.type(negative_slope),
        *(t.numpy() for t in grads),
    )
    return grads


def _mask(keep: Tensor | None, alpha: Tensor) -> Any:
    return (alpha[:0] if keep is None else keep).numpy()


class _AttentionSum(Function):
    """Leaky ReLU, softmax, dropout mask and weighted sum as one node of the autograd graph.

    The backward pass needs no sum over rows for the softmax: ``sum_r alpha_r * dalpha_r`` of a centre is
    the inner product of its output with the gradient of its output, dropout included.
    """

    @staticmethod
    def forward(
        ctx: Any,
        centre_scores: Tensor,
        item_scores: Tensor,
        items: Tensor,
        keep: Tensor | None,
        index: SegmentIndex,
        negative_slope: float,
    ) -> tuple[Tensor, Tensor]:
        forward = _forward_kernels if uses_kernels(items) else _forward_torch
        out, alpha = forward(centre_scores, item_scores, items, keep, index, negative_slope)
        ctx.save_for_backward(centre_scores, item_scores, items, alpha, keep, out)
        ctx.index, ctx.negative_slope = index, negative_slope
        ctx.mark_non_differentiable(alpha)
        return out, alpha

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        backward = _backward_kernels if uses_kernels(grad) else _backward_torch
        centre, item, items, alpha, keep, out = ctx.saved_tensors
        grad = grad.contiguous()
        # Gradients taken inside an autocast block would otherwise be multiplied in half precision.
        with torch.autocast(grad.device.type, enabled=False):
            grads = backward(grad, centre, item, items, alpha, keep, out, ctx.index, ctx.negative_slope)
        return *grads, None, None, None


def attention_sum(
    centre_scores: Tensor,
    item_scores: Tensor,
    items: Tensor,
    index: SegmentIndex,
    negative_slope: float,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attention of every centre over its rows, all heads at once.

    GAT (arXiv 1710.10903, Eq. 3) and SPAGAN (arXiv 2101.03464) with their dot product split:
    ``alpha = softmax_r(LeakyReLU(centre_scores[row] + item_scores[col]))``,
    ``out = sum_r drop(alpha_r) items[col_r]``. The concatenation ``[R, 2F]`` is never built.

    Args:
        centre_scores: ``[N, H]``.
        item_scores: ``[M, H]``.
        items: ``[M, H, D]``, what is summed.
        index: rows with N centres and M items.
        negative_slope: slope of the leaky ReLU, >= 0.
        dropout: probability of dropping a normalised weight, 0 in evaluation.

    Returns:
        ``[N, H, D]`` and the weights before dropout, ``[R, H]``, which carry no gradient. Half precision
        comes back as float32: sums over hundreds of rows need it.
    """
    dtype = torch.promote_types(items.dtype, torch.float32)
    centre_scores, item_scores, items = (
        v.to(dtype).contiguous() for v in (centre_scores, item_scores, items)
    )
    keep = None
    if dropout > 0:
        keep = dropout_mask((index.num_rows, items.size(1)), dropout, items)
    out, alpha = _AttentionSum.apply(centre_scores, item_scores, items, keep, index, negative_slope)
    return out, alpha


def head_scores(x: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
    """Inner products of every row's heads with K vectors per head, in one matrix product.

    Args:
        x: ``[N, H, D]``.
        vectors: ``[H, D, K]``.

    Returns:
        K tensors ``[N, H]``.
    """
    heads, width, count = vectors.shape
    eye = torch.eye(heads, dtype=vectors.dtype, device=vectors.device)
    # Block-diagonal [H, D, K, H] -> [H*D, K*H]: one product in place of H small ones.
    blocks = (vectors.unsqueeze(3) * eye[:, None, None, :]).reshape(heads * width, count * heads)
    return narrow_matmul(x.flatten(1), blocks).unflatten(1, (count, heads)).unbind(1)
