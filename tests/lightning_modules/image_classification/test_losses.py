import math

import torch
import torch.nn.functional as F

from lightning_modules.image_classification.losses import soft_target_loss

LOG3 = math.log(3.0)


def test_two_classes_worked_out_by_hand():
    # softmax of [log 3, 0] is [3/4, 1/4]; of [0, 0] it is [1/2, 1/2]
    teacher, student = torch.tensor([[LOG3, 0.0]]), torch.zeros(1, 2)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert math.isclose(float(soft_target_loss(student, teacher, 1.0)), divergence, rel_tol=1e-5)
    # at T = 2 the same probabilities need twice the logits, and the loss is four times as large
    assert math.isclose(float(soft_target_loss(student, 2 * teacher, 2.0)), 4 * divergence, rel_tol=1e-5)


def test_the_batch_is_averaged():
    teacher, student = torch.tensor([[LOG3, 0.0], [0.0, 0.0]]), torch.zeros(2, 2)
    first = soft_target_loss(student[:1], teacher[:1], 3.0)
    assert torch.isclose(soft_target_loss(student, teacher, 3.0), first / 2)


def test_a_student_that_agrees_up_to_a_constant_has_nothing_to_learn():
    torch.manual_seed(0)
    teacher = torch.randn(5, 7)
    student = (teacher + 3.0).requires_grad_()
    loss = soft_target_loss(student, teacher, 4.0)
    loss.backward()
    assert student.grad is not None
    assert loss.abs() < 1e-5
    assert student.grad.abs().max() < 1e-6


def test_gradients_are_those_of_the_papers_cross_entropy():
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 7), torch.randn(5, 7, requires_grad=True)
    (ours,) = torch.autograd.grad(soft_target_loss(student, teacher, 2.0), student)
    written_out = 4.0 * F.cross_entropy(student / 2.0, (teacher / 2.0).softmax(dim=-1))
    (theirs,) = torch.autograd.grad(written_out, student)
    torch.testing.assert_close(ours, theirs)


def test_hot_temperatures_match_centred_logits():
    # section 2.1 of the paper: for large T the gradient is that of half the squared distance, divided by C
    torch.manual_seed(0)
    teacher = torch.randn(4, 6, dtype=torch.float64)
    student = torch.randn(4, 6, dtype=torch.float64)
    teacher, student = (logits - logits.mean(dim=1, keepdim=True) for logits in (teacher, student))
    squares = (student - teacher).square().sum(dim=1).mean() / (2 * 6)
    torch.testing.assert_close(soft_target_loss(student, teacher, 1e4), squares, rtol=1e-3, atol=0.0)
