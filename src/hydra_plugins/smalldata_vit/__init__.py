"""What Hydra finds by itself: how `-m` makes jobs of listed values, and gives each a process of its own."""
