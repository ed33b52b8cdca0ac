"""The search behind hydra/sweeper=optuna: what varies, what is optimised, who runs which trial, and what came out."""
