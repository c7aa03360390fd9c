"""What a student learns from a teacher's outputs."""

import torch.nn.functional as F
from torch import Tensor


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's softened probabilities are from the teacher's, on the scale of a cross-entropy.

    ``T^2 KL(softmax(teacher / T) || softmax(student / T))``, from section 2 of Hinton et al. (2015, arXiv
    1503.02531). Gradients of softened probabilities shrink with ``1 / T^2``; the factor makes up for it, so
    that a weight between this and the labels' loss keeps its meaning when T changes. The paper's
    cross-entropy differs from the divergence by the entropy of the teacher, which has no gradient; at 0 the
    student agrees with it.

    Args:
        student: logits ``[B, C]``.
        teacher: logits ``[B, C]``.
        temperature: T, above 0; 1 leaves probabilities as they are, more makes them softer.

    Returns:
        The mean over the batch, a scalar >= 0.
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence
