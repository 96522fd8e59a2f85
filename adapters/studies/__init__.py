"""The studies behind the claims in the README; `palate study NAME` runs one. Files that start with `_` are shared."""
