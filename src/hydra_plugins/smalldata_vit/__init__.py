"""What Hydra finds by itself: the launcher that gives each job of a sweep a process of its own."""
