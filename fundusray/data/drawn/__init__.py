"""Drawn photographs of the retina with exact lesion masks."""
