"""The explorer: a local page that shows predictions, attribution maps and adversarial examples of networks."""
