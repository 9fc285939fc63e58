"""Recipes that come with the platform, as TOML; `recipe.py` beside this folder reads them."""
