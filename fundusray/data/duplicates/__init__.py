"""Near-duplicates: photographs that are the same picture, however encoded, scaled or mirrored."""
