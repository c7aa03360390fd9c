"""The fused attention: its gradients, and compiled loops against torch."""

import pytest
import torch
from torch import Tensor

from lightning_modules.node_classification import attention
from lightning_modules.node_classification.attention import attention_sum, head_scores
from lightning_modules.segments import SegmentIndex

ROW = torch.tensor([0, 0, 0, 1, 2, 2])
COL = torch.tensor([1, 3, 1, 0, 2, 3])


def index(identity: bool) -> SegmentIndex:
    return SegmentIndex.build(ROW, None if identity else COL, 3, 6 if identity else 4)


def inputs(segments: SegmentIndex, heads: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, heads), (segments.num_items, heads), (segments.num_items, heads, 3)]
    return [torch.randn(s, dtype=dtype, generator=generator, requires_grad=True) for s in sizes]


@pytest.fixture(params=["kernels", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(attention, "uses_kernels", lambda x: False)
    else:
        pytest.importorskip("numba")
    return request.param


@pytest.mark.parametrize("identity", [False, True])
def test_attention_passes_gradcheck(path: str, identity: bool) -> None:
    segments = index(identity)
    assert torch.autograd.gradcheck(lambda *v: attention_sum(*v, segments, 0.2)[0], inputs(segments))


def test_attention_with_a_dropout_mask_passes_gradcheck(path: str) -> None:
    segments, keep = index(False), torch.tensor([[0.0, 2.5], [2.5, 2.5], [2.5, 0]] * 2, dtype=torch.float64)
    function = lambda *v: attention._AttentionSum.apply(*v, keep, segments, 0.2)[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs(segments))


def test_attention_equals_a_loop_over_centres(path: str) -> None:
    segments = index(False)
    centre, item, values = inputs(segments)
    out, alpha = attention_sum(centre, item, values, segments, 0.2)
    for i in range(3):
        rows = i == ROW
        scores = torch.nn.functional.leaky_relu(centre[i] + item[COL[rows]], 0.2)
        torch.testing.assert_close(alpha[rows], scores.softmax(0))
        torch.testing.assert_close(out[i], (scores.softmax(0).unsqueeze(2) * values[COL[rows]]).sum(0))


@pytest.mark.parametrize(("heads", "dropout"), [(1, 0.0), (3, 0.5)])
@pytest.mark.parametrize("identity", [False, True])
def test_compiled_loops_equal_torch(
    monkeypatch: pytest.MonkeyPatch, identity: bool, heads: int, dropout: float
) -> None:
    pytest.importorskip("numba")
    segments = index(identity)
    results = []
    for kernels in (True, False):
        monkeypatch.setattr(attention, "uses_kernels", lambda x, kernels=kernels: kernels)
        torch.manual_seed(0)
        values = inputs(segments, heads, torch.float32)
        out, alpha = attention_sum(*values, segments, 0.2, dropout)
        results.append([out, alpha, *torch.autograd.grad((out**2).sum(), values)])
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("identity", [False, True])
def test_rows_in_pieces_have_the_gradients_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch, identity: bool, dropout: float
) -> None:
    monkeypatch.setattr(attention, "uses_kernels", lambda x: False)
    segments, found = index(identity), []
    for piece in (attention.PIECE, 25, 1):  # all 6 rows of 2 x 3 numbers, four and two of them, one by one
        monkeypatch.setattr(attention, "PIECE", piece)
        torch.manual_seed(0)
        values = inputs(segments)
        out, _ = attention_sum(*values, segments, 0.2, dropout)
        found.append(torch.autograd.grad((out**2).sum(), values))
    for pieces in found[1:]:
        torch.testing.assert_close(pieces, found[0], rtol=1e-12, atol=1e-14)


def test_attention_is_the_same_for_the_same_seed() -> None:
    segments = index(False)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(attention_sum(*inputs(segments), segments, 0.2, 0.5)[0])
    assert torch.equal(*runs)


def test_a_diverged_score_shows_as_nan(path: str) -> None:
    segments = index(False)
    centre, item, values = (v.detach() for v in inputs(segments))
    item[1] = torch.nan
    out, _ = attention_sum(centre, item, values, segments, 0.2)
    assert out[0].isnan().all()
    assert out[1:].isfinite().all()


@pytest.mark.parametrize("count", [1, 3])
def test_head_scores_equal_one_dot_product_per_head(count: int) -> None:
    x, vectors = torch.randn(5, 2, 4), torch.randn(2, 4, count)
    expected = torch.einsum("nhd,hdk->knh", x, vectors)
    torch.testing.assert_close(torch.stack(head_scores(x, vectors)), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_attention_on_the_gpu_equals_the_cpu() -> None:
    segments = index(False)
    on_gpu = SegmentIndex.build(ROW.cuda(), COL.cuda(), 3, 4)
    values = inputs(segments)
    moved = [v.detach().cuda().requires_grad_() for v in values]
    out, out_gpu = attention_sum(*values, segments, 0.2)[0], attention_sum(*moved, on_gpu, 0.2)[0]
    torch.testing.assert_close(out, out_gpu.cpu())
    grads, grads_gpu = (torch.autograd.grad((o**2).sum(), v) for o, v in ((out, values), (out_gpu, moved)))
    for a, b in zip(grads, grads_gpu, strict=True):
        torch.testing.assert_close(a, b.cpu())
