"""Vision Transformers from scratch on small image datasets: stages, methods and one honest protocol."""
