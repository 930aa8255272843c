"""From what a publisher ships to the manifest: one checked row per photograph."""
