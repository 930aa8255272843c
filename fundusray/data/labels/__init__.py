"""What labels mean: classes, their order, and what could not be graded."""
