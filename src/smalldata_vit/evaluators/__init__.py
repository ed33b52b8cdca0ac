"""How a method is judged: k-NN, linear probe, accuracy; and what raw pixels reach without any network."""
