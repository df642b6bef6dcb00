"""How each kind of image file becomes RGB: one module a kind, one rule for each kind of pixel (`medstudy.images`)."""
