"""Training: recipes, the loop, optimizers, schedules, several processes."""
