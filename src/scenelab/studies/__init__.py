"""Studies that train variants from one seed and compare them; each imports torch, so none is imported here."""
