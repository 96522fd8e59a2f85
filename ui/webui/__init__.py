"""Automatic1111 and Forge: an extension of theirs. Their modules are imported where used, nowhere else in Palate."""
