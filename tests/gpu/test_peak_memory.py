"""The peak of a pass is counted alike by the GPU's allocator and by the CPU's tensors."""

import pytest
import torch

from harness import system
from harness.peak_memory import peak_bytes

NO_GPU = "torch sees no CUDA device here"
MEGABYTE = 2**20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_the_peak_on_a_gpu_is_that_of_the_cpu_and_the_runs_own_is_kept() -> None:
    def peak(name: str) -> int:
        device = torch.device(name)
        x = torch.ones(MEGABYTE, device=device)

        def run() -> None:
            first = x + 1  # 4 megabytes
            second = first * 2  # 8
            del first
            second.add_(1)
            second + second  # 8

        return peak_bytes(run, device)

    held = torch.zeros(64 * MEGABYTE, dtype=torch.uint8, device="cuda")
    before = system.peak_gpu_memory_mb()
    del held
    assert before is not None
    assert peak("cuda") == peak("cpu") == 8 * MEGABYTE
    after = system.peak_gpu_memory_mb()
    assert after is not None
    assert after >= before
