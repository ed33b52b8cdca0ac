"""Images in memory, and the views that training and evaluation see of them."""
