"""Regions of the retina in a prepared image: optic disc, macula, vessels, and the rest."""
