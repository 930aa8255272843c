"""What decodes and augments: NVIDIA DALI, tensors in memory, and the plain reference."""
