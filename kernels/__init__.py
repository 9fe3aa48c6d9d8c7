"""Operations on tensors. This file does no work: some libraries import any top-level module named `kernels`."""
