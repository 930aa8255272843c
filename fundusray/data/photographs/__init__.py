"""Photographs from bytes to pixels: headers, formats, decoding, the fundus circle, quality."""
