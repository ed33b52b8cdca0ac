"""Networks without a head: what `arch=` configures, and what timm does not have in the form that is needed."""
