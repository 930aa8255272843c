"""The papers' tables as runs."""
